"""Base images: taken as they are here, pulled, or made from Debian packages where no registry answers."""
