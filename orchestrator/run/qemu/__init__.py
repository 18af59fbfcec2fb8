"""An image booted in QEMU, with the devices that a Gevulot node gives it."""
