"""From a program to a verified, bootable Nanos unikernel image: project.yaml in, image and receipt out."""

__version__ = "0.1.0"
