"""The report of many builds."""
