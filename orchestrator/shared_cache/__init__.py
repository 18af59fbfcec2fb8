"""A cache that several machines share: inputs that prove themselves, and signed results."""
