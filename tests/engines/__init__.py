"""Engines as people have them: made of Debian's packages, driven through the same scenarios (`make test-engines`)."""
