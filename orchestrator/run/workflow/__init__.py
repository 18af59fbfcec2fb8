"""A node's workflow, prover to verifier, on rehearsed or booted images."""
