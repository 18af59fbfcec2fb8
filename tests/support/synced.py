"""A daemon's side of the context's file transfer: what BuildKit keeps of a context, and what it asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.engine.base import BuildRequest
from orchestrator.engine.buildkit_pb2 import Packet, Stat
from orchestrator.engine.context_sync import MARK, Daemon, synced
from orchestrator.engine.file_sync import ContextTransfer
from orchestrator.engine.session import Attachables
from orchestrator.errors import BuildStepError
from orchestrator.events import Emit, ignore

DIRECTORY, LINK = 1 << 31, 1 << 27
ON_DISK = DIRECTORY | LINK | 0o7777
"""The bits of Go's os.FileMode that a disk keeps."""
LATER = -1
"""The time of a directory in which something was changed since: that of the transfer."""
SeenFile = tuple[int, int, bytes]
"""Mode, seconds, and content or a link's target, as a step sees them."""


@dataclass
class Copy:
    """One copy that the daemon keeps."""

    stats: dict[bytes, Stat] = field(default_factory=dict)
    data: dict[bytes, bytes] = field(default_factory=dict)

    def seen(self) -> dict[str, SeenFile]:
        """What a step sees of it: no transfer's mark."""
        return {
            path.decode(): (stat.mode, stat.mod_time // 10**9, self.data.get(path, stat.linkname))
            for path, stat in self.stats.items()
            if not path.decode().startswith(MARK)
        }


@dataclass(kw_only=True)
class KeepingDaemon:
    """Keeps contexts by key, and takes what differs by metadata from what it has, as BuildKit does.

    `masks`: mode bits that it takes no notice of. `asked`: the paths it asked for last, marks aside. `between`: called
    once it knows what there is.
    """

    copies: dict[str, Copy] = field(default_factory=dict)
    masks: int = 0
    asked: list[str] = field(default_factory=list)
    between: Callable[[], object] = lambda: None

    def build(self, request: BuildRequest, *, identity: str = "one", emit: Emit = ignore) -> dict[str, SeenFile] | None:
        """What a step of a build sees; None where the tar is taken."""
        with self.open(request, identity=identity, emit=emit) as attachables:
            if attachables is None:
                return None
            self.take(attachables, {})
            return self.copies[attachables.key].seen()

    def open(
        self, request: BuildRequest, *, identity: str = "one", emit: Emit = ignore
    ) -> AbstractContextManager[Attachables | None]:
        """The beginning of a build: what it asks for comes from these attachables."""
        return synced(request, Daemon(identity=identity, remote=False, run=self.take), emit)

    def take(self, attachables: Attachables, _parameters: Mapping[str, str]) -> None:
        """Ask for the definition, then for the context. BuildStepError where the transfer fails."""
        transfer = attachables.context
        assert transfer is not None
        definition, _asked = self._receive(transfer, Copy(), "dockerfile", ["Containerfile"])
        assert definition.data[b"Containerfile"]
        kept, asked = self._receive(transfer, self.copies.get(attachables.key, Copy()), "context", ["src"])
        self.asked = [path for path in asked if not path.startswith(MARK)]
        self.copies[attachables.key] = kept

    def _receive(self, transfer: ContextTransfer, old: Copy, name: str, paths: Sequence[str]) -> tuple[Copy, list[str]]:
        requests: deque[Packet] = deque()
        asked = [("dir-name", name), *(("followpaths", path) for path in paths)]
        answers = transfer.serve(_each(requests), cast("Any", SimpleNamespace(invocation_metadata=lambda: asked)))
        packets = map(Packet.FromString, answers)
        stats = [packet.stat for packet in _until_end(packets)]
        assert [stat.path.split(b"/") for stat in stats] == sorted(stat.path.split(b"/") for stat in stats)
        wanted = [number for number, stat in enumerate(stats) if self._differs(old.stats.get(stat.path), stat)]
        self.between()
        files = [number for number in wanted if not stats[number].mode & (DIRECTORY | LINK)]
        requests.extend(Packet(type=Packet.REQ, id=number) for number in files)
        requests.append(Packet(type=Packet.FIN))
        new = Copy(
            data={
                stat.path: old.data[stat.path]
                for stat in stats
                if stat.path in old.data and not stat.mode & (DIRECTORY | LINK)
            }
        )
        new.data |= {stats[number].path: b"" for number in files}
        for packet in packets:
            if packet.type == Packet.ERR:
                raise BuildStepError(f"error from sender: {packet.data.decode()}")
            if packet.type == Packet.DATA:
                new.data[stats[packet.id].path] += packet.data
        self._settle(old, new, stats, {stats[number].path for number in wanted})
        return new, [stats[number].path.decode() for number in files]

    def _differs(self, old: Stat | None, new: Stat) -> bool:
        mode = new.mode & ~self.masks
        if old is None or old.mode != mode or old.linkname != new.linkname:
            return True
        return not mode & DIRECTORY and (old.size, old.mod_time) != (new.size, new.mod_time)

    @staticmethod
    def _settle(old: Copy, new: Copy, stats: Sequence[Stat], wanted: set[bytes]) -> None:
        """Directories get their times where they are told of, which is before what is in them."""
        for stat in stats:
            kept = Stat()
            kept.CopyFrom(stat if stat.path in wanted else old.stats[stat.path])
            kept.mode &= ON_DISK
            new.stats[stat.path] = kept
        for path in [*wanted, *(old.stats.keys() - new.stats.keys())]:
            above, now, before = new.stats.get(path.rpartition(b"/")[0]), new.stats.get(path), old.stats.get(path)
            stays = now is not None and before is not None and now.mode & before.mode & DIRECTORY
            if above is not None and above.mode & DIRECTORY and not stays:
                above.mod_time = LATER * 10**9


def _each(requests: deque[Packet]) -> Iterator[bytes]:
    while requests:
        yield requests.popleft().SerializeToString()


def _until_end(packets: Iterator[Packet]) -> Iterator[Packet]:
    for packet in packets:
        assert packet.type == Packet.STAT, packet
        if not packet.HasField("stat"):
            return
        yield packet
