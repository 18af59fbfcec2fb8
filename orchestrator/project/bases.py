"""The image that a stage starts from, and how to make it where no registry answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from orchestrator.project import images
from orchestrator.project.fields import Line, Model, PackageName, Version
from orchestrator.project.wrong_value import WrongValueError

DEFAULT_BASE = "docker.io/library/rust:bookworm"
CUDA_IMAGE = "docker.io/nvidia/cuda:{version}-devel-ubuntu22.04"
CUDA_PACKAGES = ("ca-certificates", "cmake", "g++", "gcc", "libc6-dev", "make")
"""Beside CUDA itself, what the devel image has to build with."""
FIRST_WHOLE_CUDA = 13
"""The first CUDA whose Python packages hold a compiler."""


def is_whole_cuda(version: str) -> bool:
    """Whether the Python packages of this CUDA version (as 13.0.2) hold a compiler."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= FIRST_WHOLE_CUDA


def _whole_cuda(value: str) -> str:
    if not is_whole_cuda(value):
        raise WrongValueError(
            f"CUDA {value} cannot be assembled from Python packages, which have no nvcc before {FIRST_WHOLE_CUDA}",
            "remove it: CUDA 12 needs its image",
        )
    return value


class Bootstrap(Model):
    """A base made from Debian packages when its image can't be pulled; with `cuda`, NVIDIA's Python packages too."""

    debian: Annotated[str, Field(pattern=r"^[a-z]+$")] = "bookworm"
    """Debian release to take the packages from, by its code name."""
    packages: tuple[PackageName, ...] = ()
    """Debian packages to install in addition to the minimal system."""
    cuda: Annotated[Version, AfterValidator(_whole_cuda)] | None = None
    """CUDA toolkit to assemble from NVIDIA's Python packages: version 13 or newer. CUDA 12 needs its image."""


class Base(Model):
    """An image reference, and how to make it where no registry answers."""

    image: Annotated[Line, AfterValidator(images.check_image), Field(pattern=images.REFERENCE)]
    """Image that the stage starts from."""
    bootstrap: Bootstrap | None = None
    """How to make the base from Debian packages if the image cannot be pulled. A warning says so when it is used."""


PLAIN_BASE = Base(image="docker.io/library/debian:bookworm", bootstrap=Bootstrap(debian="bookworm"))
"""Where nothing is built: it need not have a compiler."""
READELF = ("binutils",)
STAGING_TOOLS = ("busybox-static", *READELF)
"""A shell and tools that run in any image, and readelf."""


def _base(value: Any) -> Any:
    return {"image": value} if isinstance(value, str) else value


BaseField = Annotated[Base, BeforeValidator(_base)]
