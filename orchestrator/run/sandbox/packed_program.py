"""What an image runs, and the guest in which that runs."""

from __future__ import annotations

from orchestrator.errors import UsageError
from orchestrator.guest.table import guest_of
from orchestrator.image.reader import Image
from orchestrator.image.tree import File
from orchestrator.run.node.task import WORKSPACE
from orchestrator.run.sandbox.outcome import GuestMachine, Program, SandboxLimits


def program_of(image: Image) -> Program:
    """What an image runs. UsageError when it names no program."""
    root = image.rootfs.attributes
    name, arguments, environment = root.get("program"), root.get("arguments"), root.get("environment")
    if not isinstance(name, str) or not name:
        raise UsageError("the image names no program", remedy="`inspect IMAGE manifest` shows what it holds")
    path = "/" + name.lstrip("/")
    words = [str(argument) for argument in arguments] if isinstance(arguments, list) else []
    mounts, cwd = root.get("mounts"), root.get("cwd")
    mount_paths = [str(mount) for mount in mounts.values()] if isinstance(mounts, dict) else []
    return Program(
        path=path,
        arguments=tuple(words or [path]),
        environment={str(k): str(v) for k, v in environment.items()} if isinstance(environment, dict) else {},
        cwd=cwd if isinstance(cwd, str) and cwd else "/",
        workspace=next(
            (mount.rstrip("/") for mount in mount_paths if len(mount) > 1 and mount.startswith("/")), WORKSPACE
        ),
    )


def machine_of(image: Image, program: Program, limits: SandboxLimits) -> GuestMachine:
    """The guest that an image's program runs in. A version of Nanos without a table has the nearest one's."""
    root = image.rootfs.attributes
    environment, uname, shares = (root.get(name) for name in ("environment", "uname", "mounts"))
    claimed = environment.get("NANOS_VERSION") if isinstance(environment, dict) else None
    version = str(claimed) if claimed else None
    guest = guest_of(version)
    named = image.rootfs.lookup("/etc/hostname")  # all that uname's nodename comes from, without a network
    text = image.rootfs.read_at(named, 0, 64).decode(errors="replace") if isinstance(named, File) else ""
    return GuestMachine(
        guest=guest,
        version=version or guest.version,
        program=program,
        limits=limits,
        hostname=text.rstrip("\r\n"),
        uname={str(key): str(value) for key, value in uname.items()} if isinstance(uname, dict) else {},
        shares={str(key): str(value) for key, value in shares.items()} if isinstance(shares, dict) else {},
    )
