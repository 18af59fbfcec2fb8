"""The Nanos disk image: reader and writer. The standard library only (see tree.py)."""
