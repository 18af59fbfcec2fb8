"""Plan + inputs -> the build context: what the rendered Containerfile copies and mounts, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.containerfile.context import CONTAINERFILE, MANIFEST, BuildContext, Content, HostFile, Part
from orchestrator.containerfile.order import LATER
from orchestrator.containerfile.render import (
    INSTALL_PACKAGES,
    LIST_PACKAGES,
    RUST_LINKER,
    PackagesStage,
    render_containerfile,
    render_listing,
    render_manifest,
    render_packages,
    render_rust_scripts,
    render_script,
    render_scripts,
    render_shim,
)
from orchestrator.containerfile.sources import user_sources
from orchestrator.containerfile.tree import HostTree, ListedTree
from orchestrator.events import Emit, ignore
from orchestrator.image_kind import ContextFile
from orchestrator.label import CACHE, LABEL
from orchestrator.network import SSH_MOUNT, ca_bundle
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.secrets import secret_files
from orchestrator.resolved import Input, Inputs, checksums

CACHE_LABEL = f"LABEL {LABEL}={CACHE}"
# apt reads this beside its own configuration; the bundle is the one that every other tool is pointed to.
APT_CONF = 'Acquire::https::CaInfo "/orchestrator/network/ca.crt";\nAcquire::Retries "3";\n'
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, kw_only=True)
class BuilderCapabilities:
    """What the engine's RUN understands: see `EngineCapabilities` of the engine."""

    mounts: bool = True
    ssh: str = SSH_MOUNT


@dataclass(frozen=True, kw_only=True)
class AssembledContext:
    """The rendered texts and the context that holds them.

    `certificates` is the CA bundle, which steps get as the secret `network.CA_SECRET`; it is in the context only for
    an engine without mounts.
    """

    containerfile: str
    manifest: str
    context: BuildContext
    certificates: bytes = field(repr=False)


def assemble(
    loaded: LoadedProject,
    plan: Plan,
    inputs: Inputs,
    *,
    capabilities: BuilderCapabilities,
    sources: ListedTree | None = None,
    emit: Emit = ignore,
) -> AssembledContext:
    """The context of one build; `sources` are the user's, None: as they are now."""
    containerfile = render_containerfile(plan, mounts=capabilities.mounts, ssh=capabilities.ssh)
    manifest, certificates = render_manifest(plan), _certificates(loaded)
    parts: list[Part] = [
        Content(path=CONTAINERFILE, data=containerfile.encode()),
        Content(path=MANIFEST, data=manifest.encode()),
        *script_parts(render_scripts(plan)),
        *_network(capabilities, certificates),
    ]
    if plan.finished:
        parts += shim_parts(plan)
    elif not plan.program_image:
        parts += program_parts(loaded, plan, inputs, sources)
    if plan.packages_locked and not plan.packages_image and inputs.packages is not None:
        parts += packages_parts("program", inputs.packages)
    if plan.shim is not None and plan.shim.prebuilt is None and inputs.gevulot is not None:
        parts.append(_sources(inputs.gevulot.local))
        if plan.shim.packages_locked and not plan.shim.packages_image and inputs.gevulot_packages is not None:
            parts += packages_parts("gevulot", inputs.gevulot_packages)
    parts += [_kinds_own(part) for part in plan.image.context(inputs)]
    return AssembledContext(
        containerfile=containerfile,
        manifest=manifest,
        context=BuildContext(parts=_without_secrets(parts, loaded), emit=emit),
        certificates=certificates,
    )


def assemble_shim(
    loaded: LoadedProject, plan: Plan, inputs: Inputs, *, capabilities: BuilderCapabilities, emit: Emit = ignore
) -> AssembledContext:
    """The context of the shim's stage alone."""
    if inputs.gevulot is None:
        raise ValueError("a project without `gevulot` has no shim")
    containerfile, certificates = render_shim(plan, mounts=capabilities.mounts), _certificates(loaded)
    parts: list[Part] = [
        Content(path=CONTAINERFILE, data=containerfile.encode()),
        *script_parts(render_rust_scripts(plan)),
        *_network(capabilities, certificates),
        _sources(inputs.gevulot.local),
    ]
    return AssembledContext(
        containerfile=containerfile,
        manifest="",
        context=BuildContext(parts=_without_secrets(parts, loaded), emit=emit),
        certificates=certificates,
    )


def assemble_packages(packages: PackagesStage, debs: Input, *, capabilities: BuilderCapabilities) -> AssembledContext:
    """The context of an image of a base and the Debian packages `debs`, whose files were fetched."""
    containerfile = render_packages(packages, mounts=capabilities.mounts)
    parts = [Content(path=CONTAINERFILE, data=containerfile.encode()), *packages_parts(packages.folder, debs)]
    return AssembledContext(
        containerfile=containerfile, manifest="", context=BuildContext(parts=parts), certificates=b""
    )


def assemble_listing(
    loaded: LoadedProject, base: str, names: Sequence[str], *, capabilities: BuilderCapabilities
) -> AssembledContext:
    """The context of a build that asks apt on a base."""
    containerfile, certificates = render_listing(base, names, mounts=capabilities.mounts), _certificates(loaded)
    parts: list[Part] = [
        Content(path=CONTAINERFILE, data=containerfile.encode()),
        *script_parts(render_script(LIST_PACKAGES)),
        *_network(capabilities, certificates),
    ]
    return AssembledContext(
        containerfile=containerfile, manifest="", context=BuildContext(parts=parts), certificates=certificates
    )


def packages_parts(folder: str, debs: Input) -> list[Part]:
    """What installs Debian packages: their files below `packages/FOLDER/`, the list of their sums, the script."""
    sums = checksums(debs.debs)
    return [
        *script_parts(render_script(INSTALL_PACKAGES)),
        Content(path=f"packages/{folder}/packages.sha256", data=sums.encode()),
        *(HostFile(path=f"packages/{folder}/{name}", source=path) for name, path in debs.files.items()),
    ]


def script_parts(scripts: Mapping[str, str]) -> list[Part]:
    """The context's folder `scripts/`, from texts by path."""
    return [
        # cargo executes its linker; the others are given to a shell.
        Content(path=f"scripts/{name}", data=text.encode(), executable=name.endswith(RUST_LINKER))
        for name, text in sorted(scripts.items())
    ]


def program_parts(loaded: LoadedProject, plan: Plan, inputs: Inputs, sources: ListedTree | None = None) -> list[Part]:
    """What the stage `program` copies, its script aside: the sources, their packages, the shim, the GPU assets."""
    parts: list[Part] = [sources or user_sources(loaded), *shim_parts(plan)]
    if inputs.gpu_assets is not None:
        parts.append(HostTree(prefix="gpu-assets", source=inputs.gpu_assets.local, mtime=LATER))
    if plan.dependencies is not None:
        for place, path in plan.dependencies.files.items():
            at = f"dependencies/{place}"
            tree = path.is_dir()
            parts.append(HostTree(prefix=at, source=path) if tree else HostFile(path=at, source=path, executable=False))
        for place, data in plan.dependencies.texts.items():
            parts.append(Content(path=f"dependencies/{place}", data=data))
    return _without_secrets(parts, loaded)


def shim_parts(plan: Plan, prefix: str = "shim") -> list[Part]:
    """The finished shim, if there is one."""
    if plan.shim is None or plan.shim.prebuilt is None:
        return []
    return [HostTree(prefix=prefix, source=plan.shim.prebuilt, mtime=LATER)]


def assemble_own(
    loaded: LoadedProject, plan: Plan, references: Mapping[str, str], *, labelled: bool, emit: Emit
) -> AssembledContext:
    """The context of the user's own Containerfile: their directory, and the finished shim as gevulot/. The certificates
    are for steps that ask for them as a secret.

    Its FROM lines name images by `references`. `labelled`: its stages get the label by which `clean` knows layers.
    """
    own, name = loaded.containerfile, loaded.project.build.containerfile
    if own is None or name is None:
        raise ValueError("the project has no Containerfile of its own")
    text = own.pinned(references, CACHE_LABEL if labelled else "")
    sources = user_sources(loaded, (loaded.root / loaded.project.build.context / name,))
    parts = [replace(sources, prefix=""), *shim_parts(plan, "gevulot"), Content(path=name, data=text.encode())]
    context = BuildContext(parts=parts, emit=emit, with_ours=False)
    return AssembledContext(containerfile=text, manifest="", context=context, certificates=_certificates(loaded))


def _without_secrets(parts: Iterable[Part], loaded: LoadedProject) -> list[Part]:
    """Trees without the files of secrets: the layers of a stage keep whatever is copied into it."""
    secrets = secret_files(loaded)
    return [replace(part, exclude=part.exclude + secrets) if isinstance(part, HostTree) else part for part in parts]


def _network(capabilities: BuilderCapabilities, certificates: bytes) -> list[Part]:
    parts: list[Part] = [Content(path="network/apt.conf", data=APT_CONF.encode())]
    if not capabilities.mounts:
        parts.append(Content(path="network/ca.crt", data=certificates))
    return parts


def _sources(local: Path) -> Part:
    # A checkout's own build products would make every build a different context.
    return HostTree(prefix="gevulot", source=local, exclude=(local / "target", local / ".git"))


def _kinds_own(file: ContextFile) -> Part:
    if isinstance(file.content, bytes):
        return Content(path=file.path, data=file.content, executable=file.executable)
    if file.content.is_dir():
        return HostTree(prefix=file.path, source=file.content)
    return HostFile(path=file.path, source=file.content, executable=file.executable or None)


def _certificates(loaded: LoadedProject) -> bytes:
    """The host's CA bundle, and the project's own certificates after it."""
    certificates = ca_bundle().read_bytes()
    if loaded.project.network.ca is not None:
        certificates += b"\n" + (loaded.root / loaded.project.network.ca).read_bytes()
    return certificates


def proxy_arguments(loaded: LoadedProject) -> dict[str, str]:
    """Proxies as build arguments, both spellings: engines know these names and keep them out of the image."""
    network = loaded.project.network
    proxies = {
        "http_proxy": network.http_proxy,
        "https_proxy": network.https_proxy,
        "no_proxy": network.no_proxy,
    }
    arguments: dict[str, str] = {}
    for name in PROXIES:
        value = proxies[name] or os.environ.get(name) or os.environ.get(name.upper())
        if value:
            arguments |= {name: value, name.upper(): value}
    return arguments
