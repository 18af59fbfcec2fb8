"""The receipt: what went into an image, what came out, what was checked. One model writes, reads and describes it."""
