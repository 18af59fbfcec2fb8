"""The Nanos disk image: read, written, compared, converted. The standard library only (see tree.py).

What `__all__` names is the library's public face, described in docs/library.md; modules below it may change. The
format is in docs/nanos-image.md.
"""

from .compare import ImageDifference, compare_images, same_content
from .convert import Converted, convert_image
from .errors import ImageError
from .listing import ListingEntry, path_key, tree_digest, tree_listing
from .mbr import CrashLog, Partition
from .reader import Filesystem, Image, open_image
from .tree import Directory, Extent, File, Node, Special, Symlink
from .writer import BootFiles, ImageWriter, OutOfOrderError, WrittenImage

__all__ = [
    "BootFiles",
    "Converted",
    "CrashLog",
    "Directory",
    "Extent",
    "File",
    "Filesystem",
    "Image",
    "ImageDifference",
    "ImageError",
    "ImageWriter",
    "ListingEntry",
    "Node",
    "OutOfOrderError",
    "Partition",
    "Special",
    "Symlink",
    "WrittenImage",
    "compare_images",
    "convert_image",
    "open_image",
    "path_key",
    "same_content",
    "tree_digest",
    "tree_listing",
]
