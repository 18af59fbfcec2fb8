"""Rehearsals on an engine that does not see this machine's files: what they need is sent there, and comes back."""
