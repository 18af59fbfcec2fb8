"""A few kills in CI; `make kill-test` is the long run of the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kills.grounds import PrivateGround
from tests.kills.harness import Harness, opened
from tests.kills.room import usual_room
from tests.support.engines import PODMAN_STORE, podman_engine

SEED = 20


@pytest.mark.engine
def test_killed_builds_leave_nothing(tmp_path: Path) -> None:
    """In a directory of so long a name that no socket has room there: it is another's."""
    folder = tmp_path / ("long-" * 12)
    folder.mkdir()
    with podman_engine():  # its storage has the base, and most layers
        ground = PrivateGround(folder, PODMAN_STORE)
        ground.victims = ("all", "service")
        with opened(ground):
            Harness(ground, random.Random(SEED), usual_room(folder), longest=3.0, clean=False).run(2)
