"""A stand-in for `ops` 0.1.43: its command interface, its exit codes and its quiet failures, in our own code.

It is a separate program: `make_ops` packs it with `orchestrator.image` into one file that needs Python ≥ 3.11 only.
It never uses the network (it behaves as ops does where nothing answers) and never executes the program it packs.
What it prints and how it fails was taken from runs of the real tool; short phrases are quoted as interface facts.
"""

MARKER = "GEVULOT-ORCHESTRATOR-STAND-IN: ops"
VERSION = "0.1.43"
