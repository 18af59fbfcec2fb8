"""Plan -> Containerfile text. Pure: templates, StrictUndefined, every value shell-quoted where a shell reads it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator import __version__
from orchestrator.network import CA_SECRET, FRESH_SECRET, SSH_AGENT, SSH_MOUNT, SSH_VOLUME
from orchestrator.plan.plan import Plan
from orchestrator.resources import CONTAINERFILES, SCRIPTS

STAGING_SCRIPTS = (
    "stage-tree.sh", "stage-elf.sh", "stage-files.sh", "stage-large.sh", "stage-include.sh", "stage-python.sh",
)  # fmt: skip
SBOM_RECORDS, PACK_OPS = "sbom-records.sh", "pack-ops.sh"
STEP = "step"
"""Below the context's `scripts/`: the root of what the user's step finds, which one COPY brings."""
CARGO_CONFIG, RUST_LINKER = "cargo-config.toml", "rust-linker.sh"
VARY_STEP = "vary-step.sh"
STEP_LOG = "step-log.sh"
GATHER_TOOLS = "gather-tools.sh"
FIND_INTERPRETER = "find-interpreter.sh"
CACHES = "caches.sh"
DEPENDENCIES, CRATES, INSTALL_LOCKED = "dependencies.sh", "cargo-crates.toml", "install-locked.js"
GIT_SETTINGS = "/settings.toml"
"""How the place of cargo's settings for a git repository ends."""
INSTALL_PACKAGES, LIST_PACKAGES = "install-packages.sh", "list-packages.sh"


def render_containerfile(plan: Plan, *, mounts: bool = True, ssh: str = SSH_MOUNT) -> str:
    """The multi-stage Containerfile. `mounts=False` is for Docker's classic builder (no `RUN --mount`).

    `ssh` is the engine's own mount of the ssh agent (`EngineCapabilities.ssh`).
    """
    return _render("Containerfile.j2", plan, mounts, ssh)


def renamed(containerfile: str, before: str, now: str) -> str:
    """A Containerfile of project `before` as the project `now` has it, which is otherwise the same."""
    return f"# {now}: {containerfile.removeprefix(f'# {before}: ')}"


def render_shim(plan: Plan, *, mounts: bool = True) -> str:
    """A Containerfile of the shim's stage alone."""
    return _render("shim.Containerfile.j2", plan, mounts, SSH_MOUNT)


def render_program(plan: Plan) -> str:
    """The stage `program` alone: what decides, with the files that it copies, what it gives."""
    return _render("program.Containerfile.j2", plan, True, SSH_MOUNT)


@dataclass(frozen=True, kw_only=True)
class PackagesStage:
    """Debian packages on a base: the stage's name, the image it begins with, what was asked for.

    `folder` is where the context has the .deb files, below `packages/`.
    """

    stage: str
    base: str
    folder: str
    names: Sequence[str]


def render_packages(packages: PackagesStage, *, mounts: bool = True) -> str:
    """A Containerfile that installs .deb files of the context, without a network."""
    return _text("packages.Containerfile.j2", {"packages": packages, "mounts": mounts})


def render_listing(base: str, names: Sequence[str], *, mounts: bool = True) -> str:
    """A Containerfile that asks apt on a base which packages it would install."""
    return _text("list-packages.Containerfile.j2", {"base": base, "names": names, "mounts": mounts})


def _render(template: str, plan: Plan, mounts: bool, ssh: str) -> str:
    return _text(template, {"plan": plan, "mounts": mounts, "ssh": ssh})


def _text(template: str, values: Mapping[str, object]) -> str:
    # Here: a build that renders nothing anew does without.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(CONTAINERFILES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = shlex.quote
    shared = {
        "ca_secret": CA_SECRET,
        "fresh_secret": FRESH_SECRET,
        "ssh_agent": SSH_AGENT,
        "ssh_volume": SSH_VOLUME,
        "staging_scripts": _staging_folder(),
        "version": __version__,
    }
    text = environment.get_template(template).render(values, **shared)
    return _squeeze(text)


def render_manifest(plan: Plan) -> str:
    """What the guest is told (`ops build` reads it in the container): JSON, two spaces, final newline."""
    return json.dumps(plan.image.manifest, indent=2, ensure_ascii=False) + "\n"


def render_scripts(plan: Plan) -> dict[str, str]:
    """The build context's folder `scripts/`: texts by path."""
    names = (PACK_OPS, GATHER_TOOLS) if plan.finished else (PACK_OPS,)
    names = (*names, FIND_INTERPRETER) if plan.asks_for_script else names
    scripts = {name: text for name in names for text in render_script(name).values()}
    scripts |= {f"{_staging_folder()}/{name}": text for name, text in _staging_scripts().items()}
    if plan.shim is not None and plan.shim.prebuilt is None:
        scripts |= render_rust_scripts(plan)
    return {**scripts, **render_step(plan)}


def _staging_scripts() -> dict[str, str]:
    return {name: (SCRIPTS / name).read_text(encoding="utf-8") for name in (*STAGING_SCRIPTS, SBOM_RECORDS)}


def _staging_folder() -> str:
    """Named by what is in it. The folder is mounted, which saves a layer (0.2 s on Podman), and Podman's cache looks at
    a mount's text alone."""
    whole = hashlib.sha256()
    for text in _staging_scripts().values():
        whole.update(text.encode() + b"\0")
    return f"staging-{whole.hexdigest()[:12]}"


def render_step(plan: Plan) -> dict[str, str]:
    """What the user's step finds in its root, as texts by path below `scripts/`; nothing where there is none."""
    if not plan.run_script:
        return {}
    ours = {**_dependency_scripts(plan), **_cache_scripts(plan), **_run_scripts(plan)}
    if plan.rebuild is not None:
        ours |= render_script(VARY_STEP)
    settings = render_rust_scripts(plan)
    if RUST_LINKER in settings:
        ours[RUST_LINKER] = settings[RUST_LINKER]
    step = {f"{STEP}/orchestrator/{name}": text for name, text in ours.items()}
    # cargo reads one file of settings in /, so where there are crates that one has the linker too.
    cargo = _crates(plan) or settings.get(CARGO_CONFIG, "")
    return {**step, f"{STEP}/.cargo/config.toml": cargo} if cargo else step


def _run_scripts(plan: Plan) -> dict[str, str]:
    """The script of the user's step, and what runs it."""
    script = plan.run_script
    return {"build.sh": script if script.endswith("\n") else script + "\n", **render_script(STEP_LOG)}


def render_script(name: str) -> dict[str, str]:
    """One of the scripts of that folder that not every build has."""
    return {name: (SCRIPTS / name).read_text(encoding="utf-8")}


def render_rust_scripts(plan: Plan) -> dict[str, str]:
    """Those of them that decide what links Rust programs: cargo's settings, and the linker they name."""
    names = (CARGO_CONFIG, RUST_LINKER) if plan.gnu_rust_linker else ()
    return {name: (SCRIPTS / name).read_text(encoding="utf-8") for name in names}


def _cache_scripts(plan: Plan) -> dict[str, str]:
    """What gives the step its caches, and which: cargo's needs no script."""
    names = [name for name in plan.caches if name != "cargo"]
    if not names:
        return {}
    return {CACHES: (SCRIPTS / CACHES).read_text(encoding="utf-8"), "caches": f"{' '.join(names)}\n"}


def _dependency_scripts(plan: Plan) -> dict[str, str]:
    """Those that give the step its packages."""
    if plan.dependencies is None:
        return {}
    npm = render_script(INSTALL_LOCKED) if "npm" in plan.dependencies.kinds else {}
    return {**render_script(DEPENDENCIES), **npm}


def _crates(plan: Plan) -> str:
    """cargo's settings that lead to the crates which the step is given; "" without any."""
    if plan.dependencies is None or "cargo" not in plan.dependencies.kinds:
        return ""
    linker = render_rust_scripts(plan).get(CARGO_CONFIG, "")
    texts = sorted(plan.dependencies.texts.items())
    repositories = "".join(data.decode() for place, data in texts if place.endswith(GIT_SETTINGS))
    return linker + (SCRIPTS / CRATES).read_text(encoding="utf-8") + repositories


def _squeeze(text: str) -> str:
    """Templates compose with stray blank lines; a reader needs one at most."""
    lines: list[str] = []
    # Not splitlines(): it also breaks at U+0085, U+2028 and the like, which are no line breaks to a Containerfile.
    for line in text.split("\n"):
        if line.strip() or (lines and lines[-1].strip()):
            lines.append(line.rstrip())
    return "\n".join(lines).rstrip() + "\n"
