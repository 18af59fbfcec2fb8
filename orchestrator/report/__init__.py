"""Receipts of many builds as one page: read, compared, rendered. What is in them may come from anyone."""
