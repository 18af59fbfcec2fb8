"""Plan + inputs -> the build context: what the rendered Containerfile copies and mounts, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.containerfile.context import BuildContext, Content, HostFile, Part
from orchestrator.containerfile.order import LATER
from orchestrator.containerfile.render import (
    RUST_LINKER,
    render_containerfile,
    render_manifest,
    render_rust_scripts,
    render_scripts,
    render_shim,
)
from orchestrator.containerfile.tree import HostTree
from orchestrator.events import Emit, ignore
from orchestrator.network import SSH_MOUNT, ca_bundle
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.outside import secret_files
from orchestrator.resolved import Inputs

CONTAINERFILE = "Containerfile"
# apt reads this beside its own configuration; the bundle is the one that every other tool is pointed to.
APT_CONF = 'Acquire::https::CaInfo "/orchestrator/network/ca.crt";\nAcquire::Retries "3";\n'
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, kw_only=True)
class BuilderCapabilities:
    """What the engine's RUN understands: see `EngineInfo.mounts` and `EngineInfo.ssh`."""

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
    dialect: BuilderCapabilities,
    exclude: Sequence[Path] = (),
    emit: Emit = ignore,
) -> AssembledContext:
    """The context of one build. `exclude` is left out of the user's sources, like all that is ours (see `ours`)."""
    containerfile = render_containerfile(plan, mounts=dialect.mounts, ssh=dialect.ssh)
    manifest, certificates = render_manifest(plan), _certificates(loaded)
    parts: list[Part] = [
        Content(path=CONTAINERFILE, data=containerfile.encode()),
        Content(path="manifest.json", data=manifest.encode()),
        *script_parts(render_scripts(plan)),
        *_network(dialect, certificates),
    ]
    if not plan.program_image:
        parts += program_parts(loaded, plan, inputs, exclude)
    if plan.shim is not None and plan.shim.prebuilt is None and inputs.gevulot is not None:
        parts.append(_sources(inputs.gevulot.local))
    if plan.packer == "ops":
        parts += _ops_parts(plan, inputs)
    return AssembledContext(
        containerfile=containerfile,
        manifest=manifest,
        context=BuildContext(parts=_without_secrets(parts, loaded), emit=emit),
        certificates=certificates,
    )


def assemble_shim(
    loaded: LoadedProject, plan: Plan, inputs: Inputs, *, dialect: BuilderCapabilities, emit: Emit = ignore
) -> AssembledContext:
    """The context of the shim's stage alone."""
    if inputs.gevulot is None:
        raise ValueError("a project without `gevulot` has no shim")
    containerfile, certificates = render_shim(plan, mounts=dialect.mounts), _certificates(loaded)
    parts: list[Part] = [
        Content(path=CONTAINERFILE, data=containerfile.encode()),
        *script_parts(render_rust_scripts(plan)),
        *_network(dialect, certificates),
        _sources(inputs.gevulot.local),
    ]
    return AssembledContext(
        containerfile=containerfile,
        manifest="",
        context=BuildContext(parts=_without_secrets(parts, loaded), emit=emit),
        certificates=certificates,
    )


def script_parts(scripts: Mapping[str, str]) -> list[Part]:
    """The context's folder `scripts/`, from texts by file name."""
    return [
        # cargo executes its linker; the others are given to a shell.
        Content(path=f"scripts/{name}", data=text.encode(), executable=name == RUST_LINKER)
        for name, text in sorted(scripts.items())
    ]


def program_parts(loaded: LoadedProject, plan: Plan, inputs: Inputs, exclude: Sequence[Path] = ()) -> list[Part]:
    """What the stage `program` copies, its script aside: the sources, the finished shim, the GPU assets."""
    context = (loaded.root / loaded.project.build.context).resolve()
    parts: list[Part] = [HostTree(prefix="src", source=context, ignore_file=True, exclude=tuple(exclude), sources=True)]
    if plan.shim is not None and plan.shim.prebuilt is not None:
        parts.append(HostTree(prefix="shim", source=plan.shim.prebuilt, mtime=LATER))
    if inputs.gpu_assets is not None:
        parts.append(HostTree(prefix="gpu-assets", source=inputs.gpu_assets.local, mtime=LATER))
    return _without_secrets(parts, loaded)


def _without_secrets(parts: Iterable[Part], loaded: LoadedProject) -> list[Part]:
    """Trees without the files of secrets: the layers of a stage keep whatever is copied into it."""
    secrets = secret_files(loaded)
    return [replace(part, exclude=part.exclude + secrets) if isinstance(part, HostTree) else part for part in parts]


def _network(dialect: BuilderCapabilities, certificates: bytes) -> list[Part]:
    parts: list[Part] = [Content(path="network/apt.conf", data=APT_CONF.encode())]
    if not dialect.mounts:
        parts.append(Content(path="network/ca.crt", data=certificates))
    return parts


def _sources(local: Path) -> Part:
    # A checkout's own build products would make every build a different context.
    return HostTree(prefix="gevulot", source=local, exclude=(local / "target", local / ".git"))


def _ops_parts(plan: Plan, inputs: Inputs) -> list[Part]:
    """ops, and its home as it would be after the downloads that it makes."""
    if inputs.ops is None:
        raise ValueError("the ops packer needs the ops binary among its inputs")
    parts: list[Part] = [
        HostFile(path="ops/ops", source=inputs.ops.local, executable=True),
        Content(path="nanos/latest.txt", data=plan.nanos_version.encode()),
        HostTree(prefix=f"nanos/{plan.nanos_version}", source=inputs.nanos.local),
    ]
    if inputs.nanos_common is not None:
        parts.append(HostFile(path="nanos/common.tar.gz", source=inputs.nanos_common.local))
    return parts


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
