"""The matrix's scenarios inside of the virtual machine (virtual.py), as root in a session of the user's.

`python3 -m tests.engines.inside ENGINE DIGESTS`: each line of stdin is a scenario, each of stdout an `Answer` in JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.engines.client import Client
from tests.engines.daemons import MatrixEngine, Service
from tests.engines.machines import USER
from tests.engines.scenarios import SCENARIOS, Bench, NotHereError
from tests.support.user import NOBODY

ENGINES = {
    "podman-rootless": MatrixEngine(program="podman", release="trixie", rootless=True),
    "docker": MatrixEngine(program="docker", release="trixie"),
}
"""As systemd starts them: the user's by its socket, and the machine's."""
_CACHE = Path("/work/cache")
"""The user's, with the base in it (virtual.sh)."""
_RUN = f"/run/user/{NOBODY}"
_SESSION = {"XDG_RUNTIME_DIR": _RUN, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={_RUN}/bus"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a scenario ended: `outcome` ok|refused|failed with `words` why. `digests` of the images so far."""

    outcome: str
    words: str
    digests: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ThisMachine:
    """The one that this runs in. `folder` has what the engine stores."""

    folder: Path

    def run(self, *command: str, user: bool = False) -> str:
        """What a command writes."""
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--init-groups", "env", f"HOME=/home/{USER}"]
        words = [*become, *(f"{name}={value}" for name, value in _SESSION.items()), *command] if user else command
        done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout

    def files(self, path: str) -> Path:
        """A path there."""
        return Path(path)


def make_bench(name: str, digests: dict[str, str]) -> Bench:
    """The engine started, and a client of it."""
    engine = ENGINES[name]
    machine = ThisMachine(folder=Path("/home" if engine.rootless else "/var/lib"))
    whose = ["--user"] if engine.rootless else []
    # Docker as it is after a boot: by its socket it starts within a minute here, which is more than it is given.
    unit = "podman.socket" if engine.rootless else "docker.service"
    machine.run("systemctl", *whose, "start", unit, user=engine.rootless)
    url = f"unix://{_RUN}/podman/podman.sock" if engine.rootless else "unix:///run/docker.sock"
    service = Service(engine=engine, machine=machine, spec=url, local=url, environment=_SESSION)
    folder = Path(f"/home/{USER}/{name}")
    (folder / "tmp").mkdir(parents=True)
    client = Client(service=service, folder=folder, cache=_CACHE)
    client.own(folder)
    return Bench(client=client, digests=digests)


def _ask(bench: Bench, scenario: str) -> Answer:
    outcome, words = "ok", ""
    try:
        SCENARIOS[scenario](bench)
    except NotHereError as reason:
        outcome, words = "refused", str(reason)
    except (AssertionError, OSError, subprocess.SubprocessError) as fault:
        outcome, words = "failed", f"{type(fault).__name__}: {fault}"
    return Answer(outcome=outcome, words=words, digests=bench.digests)


def main(arguments: Sequence[str]) -> None:
    """Until stdin ends."""
    name, digests = arguments
    bench = make_bench(name, json.loads(digests))
    for line in sys.stdin:
        print(json.dumps(asdict(_ask(bench, line.strip()))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
