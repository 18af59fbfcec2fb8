"""Images that Nanos boots: what it wants in them, how they are packed, what they are checked for, how they run."""
