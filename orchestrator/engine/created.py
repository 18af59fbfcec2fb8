"""The files of an image, by way of containers that are created, never started, and removed at the end."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from orchestrator.engine.archive import ArchiveStream
from orchestrator.engine.docker_api import Api, ApiError, reference_path
from orchestrator.engine.interrupts import hold_back
from orchestrator.engine.layers import open_in_layers
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.label import LABEL
from orchestrator.staged import StagedEntry

_CHUNK = 1024 * 1024


@dataclass(kw_only=True)
class CreatedContainers:
    """Containers of one image: as many as archives are open at once. `remove` them at the end."""

    api: Api
    image: str
    build_id: str
    _names: list[str] = field(default_factory=list)
    _free: list[str] = field(default_factory=list)
    _layers: tuple[str, ...] | None = None

    @contextmanager
    def open_archive(self, path: str) -> Iterator[BinaryIO]:
        """A tar stream of `path`.

        BuildStepError when the image has no such path; EngineError, from a read, when the stream was cut.
        """
        # Podman that is told to remove a container while it creates it takes its storage away and keeps the rest, and
        # its list of containers is an error from then on (4.3.1). So an interrupt waits until the engine has answered.
        with hold_back() as let_through:
            name = self._take()
            # Docker locks the container for as long as the archive's connection is open: opened and closed here.
            with self._archive(name, path) as stream, let_through():
                yield stream
            self._free.append(name)

    def open_file(self, path: str) -> BinaryIO | None:
        """A regular file (an absolute path without links) where the engine's storage is this machine's and can be read.

        None everywhere else, where `open_archive` has it.
        """
        if self._layers is None:
            with hold_back():
                name = self._take()
                self._free.append(name)
            try:
                container = self.api.json("GET", f"/containers/{name}/json")
            except ApiError:  # an archive will say it, if it is of consequence
                container = {}
            self._layers = _layers(container.get("GraphDriver") or {})
        return open_in_layers(self._layers, path)

    def sorted_entries(self, path: str) -> Iterator[StagedEntry] | None:  # noqa: ARG002
        """Not from here: each would be an archive of its own."""
        return None

    def remove(self) -> None:
        """Remove them."""
        for name in self._names:
            with suppress(EngineError):  # an error on the way out must not hide the one on the way
                remove_container(self.api, name)

    def _take(self) -> str:
        if self._free:
            return self._free.pop()
        # Named by us, so that it can be removed even when we are interrupted before the engine has answered.
        name = f"orchestrator-{secrets.token_hex(8)}"
        # An image made from scratch has no command, and an engine creates no container without one.
        body = {"Image": self.image, "Cmd": ["/never-started"], "Labels": {LABEL: self.build_id}}
        self._names.append(name)
        self.api.json("POST", "/containers/create", params={"name": name}, body=body)
        return name

    @contextmanager
    def _archive(self, container: str, path: str) -> Iterator[BinaryIO]:
        with ExitStack() as stack:
            try:
                chunks = stack.enter_context(
                    self.api.get_stream(f"/containers/{container}/archive", params={"path": path})
                )
            except ApiError as error:
                if error.status != 404:
                    raise
                raise BuildStepError(
                    f"the built image has no {path}", remedy="check where the build puts it"
                ) from error
            reader = stack.enter_context(io.BufferedReader(ArchiveStream(chunks, path), _CHUNK))
            yield cast(BinaryIO, reader)


def remove_container(api: Api, name: str) -> None:
    """Remove a container and its volumes; one that is already gone is no error."""
    try:
        with hold_back():
            api.json("DELETE", f"/containers/{reference_path(name)}", params={"force": True, "v": True})
    except ApiError as error:
        if error.status != 404:
            raise


def _layers(driver: dict[str, Any]) -> tuple[str, ...]:
    """The directories of an overlay file system, the uppermost first; none for any other storage."""
    data = driver.get("Data") or {}
    if driver.get("Name") not in ("overlay", "overlay2") or not data.get("LowerDir"):
        return ()
    return tuple(part for part in (str(data.get("UpperDir") or ""), *str(data["LowerDir"]).split(":")) if part)
