"""Engines: stream parsers (no engine needed) and scenarios on real ones."""
