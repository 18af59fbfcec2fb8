"""The plan: everything that the Containerfile and the packers need to know, decided. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator.image_kind import ImagePlan


@dataclass(frozen=True, kw_only=True)
class ShimPlan:
    """Stage `gevulot`. `what` says in words where the source comes from; `base` is a FROM reference.

    `prebuilt` is a directory of this host with what the stage gave before: it is copied instead of built. `packages`
    and what goes with them are as in `Plan`.
    """

    what: str
    base: str
    packages: tuple[str, ...]
    workspace: bool
    packages_locked: bool = False
    packages_image: str = ""
    prebuilt: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """The GPU parts of stages `program` and `staging`. `driver_libraries` are names without `.so…`.

    `toolkit` says whether the base has a CUDA toolkit at /usr/local/cuda.
    """

    driver_libraries: tuple[str, ...]
    toolkit: bool


@dataclass(frozen=True, kw_only=True)
class StagingPlan:
    """Stage `staging`: the options of stage-tree.sh, in order, as (option, value)."""

    libraries: str
    arguments: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class DependenciesPlan:
    """Packages that the user's step takes from files instead of registries.

    `kinds` are package managers (cargo, go, npm, pip); `files` of this host, some of them directories, and `texts`, by
    place below the context's folder `dependencies/`.
    """

    kinds: tuple[str, ...]
    files: Mapping[str, Path]
    texts: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where in project.yaml a build step came from: dotted field, 1-based line (None = a default)."""

    field: str
    line: int | None


Factor = Literal["cores", "locale", "umask", "path"]
"""What a rebuild can change for the user's step; containerfiles/scripts/vary-step.sh says how."""


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """A build that is made to be compared with another. `number` is unlike any other's: the step runs again."""

    number: str
    varied: tuple[Factor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One image's plan.

    `packages` are installed on `base`: the .deb files of the context if `packages_locked`, else what the mirror has;
    `packages_image` is an image that has them already ("" = install them). `program` is the guest path without its
    leading "/"; `image` is what the kind of image decided; `secrets` are the ids that the user's step gets, `ssh` says
    whether it gets the ssh agent; `gnu_rust_linker`: cargo links with GNU ld instead of rustc's own lld;
    `program_image` is an image that stands for stage `program` ("" = build it); `finished`: it is not of our making,
    the guest's root is laid out like it, and staging takes its tools from `base`; `dependencies` is what the sources'
    lock files name, where the step is given it; `fixed_environment`: the user's step gets the same clock, locale and
    umask everywhere (`reproducible`); `caches` outlast the step (`build.caches`); `climbing_links`: links of the
    sources that lead out of them come in a tar of their own; `rebuild`: the step runs under other conditions, to be
    compared; `asks_for_script`: a stage `script` says what starts the program, `script_question` are the options of
    find-interpreter.sh there; `origins` maps a step's key (see `plan.origins`) to its place in project.yaml.
    """

    name: str
    runtime: str
    shim: ShimPlan | None
    base: str
    packages: tuple[str, ...]
    gpu: GpuPlan | None
    run_script: str
    run_interpreter: str
    staging: StagingPlan
    program: str
    image: ImagePlan
    secrets: tuple[str, ...] = ()
    ssh: bool = False
    gnu_rust_linker: bool = True
    program_image: str = ""
    finished: bool = False
    dependencies: DependenciesPlan | None = None
    packages_locked: bool = False
    packages_image: str = ""
    fixed_environment: bool = True
    caches: tuple[str, ...] = ("cargo",)
    climbing_links: bool = False
    rebuild: Rebuild | None = None
    asks_for_script: bool = False
    script_question: tuple[tuple[str, str], ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
