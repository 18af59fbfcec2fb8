"""The Nanos disk image: reader, writer, stub kernel. The standard library only (see tree.py)."""
