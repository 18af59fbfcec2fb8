"""What is said about an image beside its receipt: the SLSA statement, the bill of materials, signatures."""
