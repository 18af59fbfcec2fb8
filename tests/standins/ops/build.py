"""`ops build`: from the configuration and the host's files to an image file."""
# Without pathlib: paths are text here: ops compares and cuts them by letters.
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH116, PTH118, PTH119

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.values import Value

from . import behaviour as injected
from .config import Config, Json, is_address, load
from .console import BuildFailureError, fatal, fatal_bold, panic, say
from .disk import Settings, write_image
from .guest import Guest, reason
from .home import Home, Release
from .libraries import check_program, find_libraries
from .options import Options

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(kw_only=True)
class _Job:
    """One build: what was asked for, and the names that follow from it."""

    options: Options
    config: Config
    home: Home
    ops_version: str
    behaviour: str
    program: str
    image: Path
    release: Release


def build(options: Options, home: Home, ops_version: str, behaviour: str) -> None:
    """Run the command; prints the success line. Exits and BuildFailureError as ops."""
    config = load(options.texts["config"]) if options.texts["config"] else Config()
    _refuse_unsupported(options, config)
    word = options.words[0]
    if not (home.path / word).exists() and not Path(word).exists():
        fatal(f"error: {word}: stat {home.path / word}: no such file or directory\n")
    program = config.text("Program") or word
    injected.before_build(behaviour, options.texts["nanos-version"])
    job = _Job(
        options=options,
        config=config,
        home=home,
        ops_version=ops_version,
        behaviour=behaviour,
        program=program,
        image=_image_path(options, config, home, program),
        release=home.release(options.texts["nanos-version"]),
    )
    with tempfile.TemporaryDirectory(prefix="ops-standin-") as folder:
        guest = _compose(job, Path(folder))
        if not injected.instead_of_image(behaviour, job.image):
            write_image(job.image, guest, job.release, _settings(job))
            if not injected.after_image(behaviour, job.image):
                return
    say(f"Bootable image file:{job.image}")
    injected.after_success(behaviour)


def _refuse_unsupported(options: Options, config: Config) -> None:
    arch = options.texts["arch"]
    if arch not in ("", "amd64", "arm64"):
        fatal_bold("unknown architecture")
    unsupported = {
        "another architecture": arch == "arm64",
        "a cloud": options.texts["target-cloud"] not in ("", "onprem"),
        "TargetRoot": bool(options.texts["target-root"] or config.text("TargetRoot")),
        "BuildDir, which ops deletes after the build": bool(config.text("BuildDir")),
        "nightly builds": "nightly" in options.switches or config.flag("NightlyBuild"),
    }
    for what, asked in unsupported.items():
        if asked:
            fatal(f"the stand-in ops does not do {what}")


def _image_path(options: Options, config: Config, home: Home, program: str) -> Path:
    name = options.texts["imagename"] or config.inner("RunConfig").text("ImageName") or program
    return home.path / "images" / (os.path.basename(name.rstrip("/")).split(".")[0] or os.path.basename(program))


def _settings(job: _Job) -> Settings:
    size = re.fullmatch(r"(\d+)([kmg]?)", job.config.text("BaseVolumeSz"), re.IGNORECASE)
    minimum = int(size[1]) * _UNITS[size[2].lower()] if size else 0  # other spellings are ignored without a word
    old = "tfsv4" in job.options.switches or job.config.flag("TFSv4")
    return Settings(version=4 if old else 5, minimum=-(-minimum // 512) * 512, uefi=job.config.flag("Uefi"))


def _compose(job: _Job, scratch: Path) -> Guest:
    """The guest's tree, in the order in which ops adds things: later ones win."""
    mounts = _mounts(job)
    guest = Guest()
    if job.behaviour != "missing-common":
        for path, host in job.home.common_files().items():
            guest.add_file(path, str(host))
    program = "/" + os.path.normpath("/" + job.program).lstrip("/")
    guest.add_file(program, job.program)
    guest.attributes["program"] = program
    _add_system_files(job, guest, scratch)
    _add_klibs(job, guest, job.config.texts("Klibs"))
    _add_files(job, guest)
    _add_attributes(job, guest)
    _add_environment(job, guest)
    for label, target in mounts.items():
        guest.make_folders(target.removeprefix("/").split(":")[0])
        labels = guest.attributes.setdefault("mounts", {})
        assert isinstance(labels, dict)
        labels[label] = target
    _add_libraries(job, guest)
    _add_network(job, guest)
    for key, value in job.config.anything("ManifestPassthrough").items():
        guest.attributes[key] = _value(value)
    return guest


def _mounts(job: _Job) -> dict[str, str]:
    """Mounts by label. Labels of no local volume are numbered anew, in the order of their host paths."""
    mounts = dict(job.config.table("Mounts"))
    for text in job.options.lists["mounts"]:
        label, _, target = text.partition(":")
        if not target.startswith("/"):
            fatal_bold(f"mount config invalid: {text}" if target else f"mount config invalid: missing parts: {text}")
        mounts[label] = target
    shares: dict[str, str] = {}
    for label, target in list(mounts.items()):
        if job.home.volume_exists(label):
            continue
        host = label if label.startswith("/") else os.path.normpath(os.path.join(job.config.folder, label))
        try:
            folder = os.path.isdir(host) if os.stat(host) else False
        except OSError as error:
            if job.ops_version == "0.1.41":
                raise BuildFailureError(reason(error, "stat", host)) from error
            folder = True
        if folder:
            shares[host] = target
            del mounts[label]
    for number, host in enumerate(sorted(shares, key=os.fsencode)):
        mounts[f"%{number}"] = shares[host]
    return mounts


def _add_system_files(job: _Job, guest: Guest, scratch: Path) -> None:
    servers = job.config.texts("NameServers") or ["8.8.8.8"]
    files = {
        "/etc/resolv.conf": "".join(f"nameserver  {server}\n" for server in servers),
        "/proc/sys/kernel/hostname": "uniboot",
        "/etc/passwd": "root:x:0:0:root:/root:/bin/nobash",
    }
    for path, text in files.items():
        host = scratch / os.path.basename(path)
        host.write_text(text)
        guest.add_file(path, str(host))


def _add_klibs(job: _Job, guest: Guest, names: list[str]) -> None:
    if not names:
        return
    names = [*names, "tls"] if "cloud_init" in names and "tls" not in names else names
    folder = job.config.text("KlibDir") or str(job.release.klibs)
    guest.klibs = guest.klibs or {}
    for name in names:
        host = f"{folder}/{name}"
        if os.path.exists(host) and job.behaviour != "missing-klib":
            guest.klibs[name] = host
        else:
            say(f"Klib {name} not found in directory {folder}")
    guest.attributes["klibs"] = "bootfs"


def _add_files(job: _Job, guest: Guest) -> None:
    # Even an absolute entry is looked for below the working directory.
    for entry in job.config.texts("Files"):
        guest.add_file(entry, f"{os.getcwd()}/{entry}")
    for pattern, target in job.config.table("MapDirs").items():
        for argument in _arguments(job):
            if argument == os.path.basename(target):
                raise BuildFailureError(
                    "failed building manifest: can't have directory with same name as binary " + argument
                )
        host = pattern if pattern.startswith("/") else os.path.normpath(os.path.join(job.config.folder, pattern))
        guest.add_mapped(host, target)
    for entry in job.config.texts("Dirs"):
        guest.add_tree(entry)


def _arguments(job: _Job) -> list[str]:
    return [job.program, *(job.options.lists["args"] or job.config.texts("Args"))]


def _add_attributes(job: _Job, guest: Guest) -> None:
    guest.attributes["arguments"] = list[Value](_arguments(job))
    if job.config.flag("RebootOnExit"):
        guest.attributes["reboot_on_exit"] = "t"
    for name in job.config.texts("Debugflags"):
        guest.attributes[name] = "t"
    if calls := job.config.texts("NoTrace"):
        guest.attributes["notrace"] = list[Value](calls)


def _add_environment(job: _Job, guest: Guest) -> None:
    variables = dict(job.config.table("Env"))
    for text in job.options.lists["envs"]:
        parts = text.split("=")  # a second `=` cuts the value short
        if len(parts) < 2:
            panic("runtime error: index out of range [1] with length 1")
        variables[parts[0]] = parts[1]
    ports = job.config.inner("RunConfig").texts("Ports")
    guest.environment = {
        "USER": "root",
        "PWD": "/",
        "OPS_VERSION": job.ops_version,
        "NANOS_VERSION": job.release.version,
        "NANOS_ARCH": "amd64",
        "IMAGE_NAME": job.image.name,
        **variables,
        **({"OPS_PORT": ",".join(ports)} if ports else {}),
    }
    if "RADAR_KEY" in variables:
        guest.environment.setdefault("RADAR_IMAGE_NAME", job.image.name)
        _add_klibs(job, guest, ["tls", "radar"])


def _add_libraries(job: _Job, guest: Guest) -> None:
    """Each library where the loader finds it, with the working directory cut off the front of the path."""
    path = os.path.abspath(job.program)
    check_program(path)
    paths, missing = find_libraries(path)
    if missing:
        say("Ops can't find the following missing libraries:")
        listed = "\n".join(f"{name} => not found" for name in missing)
        raise BuildFailureError(f"failed building manifest: Library: {listed}")
    here = os.getcwd()
    for place in paths.values():
        library = os.path.abspath(place)
        if library.startswith(here):  # by letters, not by directories: /build also cuts /build-x and / cuts all
            library = library[len(here) + 1 :]
        try:
            guest.add_file(library.removeprefix("/"), library)
        except BuildFailureError:
            continue  # ops doesn't look at this error


def _add_network(job: _Job, guest: Guest) -> None:
    run, flags = job.config.inner("RunConfig"), job.options.texts
    nics = run.inners("Nics")
    source = nics[0] if nics else run
    values = {
        "ipaddr": flags["ip-address"] if is_address(flags["ip-address"]) else source.text("IPAddress"),
        "ip6addr": flags["ipv6-address"] or ("" if nics else run.text("IPv6Address")),
        "gateway": flags["gateway"] if is_address(flags["gateway"]) else source.text("Gateway"),
        "netmask": flags["netmask"] if is_address(flags["netmask"]) else source.text("NetMask"),
    }
    if nics or values["ipaddr"] or values["ip6addr"]:
        guest.attributes.update(values)
    for number, nic in enumerate(nics[1:], start=2):
        guest.attributes[f"en{number}"] = {
            "ipaddr": nic.text("IPAddress"),
            "netmask": nic.text("NetMask"),
            "gateway": nic.text("Gateway"),
        }


def _value(value: Json) -> Value:
    """A passthrough value; what ops can't write is found out later, as there."""
    return value  # type: ignore[return-value]
