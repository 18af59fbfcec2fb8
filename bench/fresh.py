"""A runner that never saw a project, with the shared cache: how long its builds take, what comes, and which steps run.

python -m bench.fresh ENGINE       # as root; docker|podman. Exit 1 where anything is not as it must be

A registry and the runner are network namespaces with a line between them, and the runner has no other: each time it has
new caches and a new engine without an image. Another machine, which has built the project, has filled the registry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.namespaces import Line, connected, on
from tests.build.projects import BASE, write_project
from tests.support import engines
from tests.support.keys import write_keys
from tests.support.registry import Registry, registry

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
COMMAND = [sys.executable, "-m", "orchestrator"]
REGISTRY, RUNNER = "frs0", "frs1"
TO_RUNNER, OWN = Line(21, REGISTRY, RUNNER), Line(22, REGISTRY, "")
MOST = 3.0
"""Seconds of an unchanged build, apart from the transfer."""
RUN = """\
sleep 5
gcc -O1 -o program program.c -lm -lz -L"$GEVULOT_LIB_DIR" -Wl,--no-as-needed -lgevulot_shim_ffi
"""
RUST = ["cargo-web", "rustc-web", "gcc", "libc6-dev", "protobuf-compiler", "pkg-config", "ca-certificates"]


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A machine that has nothing."""

    folder: Path
    cache: Registry
    key: Path
    engine: str

    def build(self, project: Path) -> dict[str, Any]:
        """Build there; seconds, bytes that came by its line, steps that ran by stage, and the receipt."""
        output, line = self.folder / "out", f"flt{TO_RUNNER.number}b"
        url = f"oci+http://{TO_RUNNER.addresses[0]}:{self.cache.host.rpartition(':')[2]}/fleet"
        words = [*COMMAND, "build", str(project), "-o", str(output), "--progress", "json", "--engine", self.engine,
                 "--cache", url, "--cache-trust", str(self.key), "--trust-project"]  # fmt: skip
        before, began = _received(line), time.monotonic()
        done = subprocess.run([*on(RUNNER), *words], check=False, capture_output=True, text=True, cwd=ROOT,
                              env=self._environment())  # fmt: skip
        took = time.monotonic() - began
        assert done.returncode == 0, done.stderr[-4000:]
        (receipt,) = output.glob("*.receipt.json")
        steps = _steps(done.stderr)
        return {
            "seconds": round(took, 2),
            "transfer": round(sum(row["seconds"] for row in steps if row["title"].startswith("take ")), 2),
            "bytes": _received(line) - before,
            "ran": [[row["stage"], row["title"][:100]] for row in steps if _is_of_engine(row)],
            "blake3": json.loads(receipt.read_text())["image"]["blake3"],
        }

    def _environment(self) -> dict[str, str]:
        own = {f"XDG_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
        logins = {"REGISTRY_AUTH_FILE": str(self.folder.parent / "auth.json")}
        kept = {name: value for name, value in os.environ.items() if name != "ORCHESTRATOR_CACHE_DIR"}
        return {**kept, **own, **logins}


def _steps(log: str) -> list[dict[str, Any]]:
    """The steps of a build that ran to their end, and weren't cached: stage, title, seconds."""
    started, ended = {}, []
    for text in log.splitlines():
        event = json.loads(text) if text.startswith("{") else {}
        if event.get("event") == "step-started":
            started[event["id"]] = event
        elif event.get("event") == "step-finished" and event["status"] == "done":
            begun = started[event["id"]]
            ended.append({"stage": begun["stage"], "title": begun["title"], "seconds": event["seconds"]})
    return ended


def _is_of_engine(step: Mapping[str, Any]) -> bool:
    """Whether it is a RUN of a Containerfile."""
    return str(step["title"]).startswith("RUN ")


def _received(line: str) -> int:
    shown = subprocess.run(["ip", "-n", RUNNER, "-s", "-j", "link", "show", line],
                           capture_output=True, text=True, check=True)  # fmt: skip
    return int(json.loads(shown.stdout)[0]["stats64"]["rx"]["bytes"])


def sources(folder: Path) -> Path:
    """A project with a shim, build packages and a program in C."""
    shutil.copytree(ROOT / "examples/standin-gevulot", folder / "gevulot", ignore=shutil.ignore_patterns("target"))
    base = {"image": BASE["image"], "bootstrap": {"debian": "bookworm", "packages": RUST}}
    return write_project(
        folder / "p", base=base, gevulot={"path": "../gevulot", "base": base},
        build={"run": RUN, "program": "program", "packages": ["zlib1g-dev"]},
    )  # fmt: skip


@contextmanager
def new_runner(folder: Path, cache: Registry, key: Path, kind: str) -> Iterator[Runner]:
    """One with an engine of its own that has no image yet."""
    folder.mkdir()
    if kind == "podman":
        yield Runner(folder=folder, cache=cache, key=key, engine="private")
        return
    dockerd = engines.Dockerd(folder / "docker", network=False)
    dockerd.start()
    try:
        yield Runner(folder=folder, cache=cache, key=key, engine=dockerd.socket)
    finally:
        dockerd.stop()


def changed(first: Path, folder: Path, name: str, before: str, after: str) -> Path:
    """A checkout in which a file's text differs."""
    shutil.copytree(first.parents[1], folder)
    path = folder / "p" / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return folder / "p/project.yaml"


def measure(kind: str) -> dict[str, Any]:
    """Each case on a runner of its own, and the bytes of the same built on the first machine."""
    engine_of = engines.podman_engine if kind == "podman" else engines.docker_engine
    with (
        tempfile.TemporaryDirectory() as name,
        engine_of() as engine,
        connected((REGISTRY, RUNNER), [TO_RUNNER, OWN]),
        registry(Path(name) / "registry", namespace=REGISTRY, address=OWN.addresses[0]) as cache,
    ):
        folder = Path(name)
        write_keys(folder, "fleet")
        port = cache.host.rpartition(":")[2]
        logins = cache.auth_file(folder / "auth.json", hosts=[f"{TO_RUNNER.addresses[0]}:{port}"])
        first = sources(folder / "first")

        def build_here(project: Path, *more: str) -> str:
            output = project.parents[1] / "out"
            words = [*COMMAND, "build", str(project), "-o", str(output), "--engine", engine.info.endpoint, *more]
            done = subprocess.run([*words, "--trust-project"], check=False, capture_output=True, text=True, cwd=ROOT,
                                  env={**os.environ, "REGISTRY_AUTH_FILE": str(logins)})  # fmt: skip
            assert done.returncode == 0, done.stderr[-4000:]
            (receipt,) = output.glob("*.receipt.json")
            return str(json.loads(receipt.read_text())["image"]["blake3"])

        sign = ("--cache-role", "read-write", "--cache-sign", str(folder / "fleet.pem"))
        began = time.monotonic()
        build_here(first, "--cache", f"oci+http://{cache.host}/fleet", *sign)
        result: dict[str, Any] = {"first": round(time.monotonic() - began, 2), "cases": {}}
        cases = {
            "unchanged": first,
            "one source line": changed(first, folder / "line", "program.c", '"%f\\n"', '"%e\\n"'),
            "what is staged": changed(
                first, folder / "stage", "project.yaml", "nanos:", "stage: {include: [nss]}\nnanos:"
            ),
        }
        for case, project in cases.items():
            own = folder / f"runner-{len(result['cases'])}"
            with new_runner(own, cache, folder / "fleet.public.pem", kind) as runner:
                row = result["cases"][case] = runner.build(project)
            row["same_as_alone"] = row.pop("blake3") == build_here(project, "--cache", "none", "--no-cache")
    return result


def faults_of(result: Mapping[str, Any]) -> list[str]:
    """What is not as it must be."""
    cases = result["cases"]
    unchanged, line, staged = cases["unchanged"], cases["one source line"], cases["what is staged"]
    users = [title for stage, title in line["ran"] if stage == "program"]
    right = {
        "unchanged: no step runs": not unchanged["ran"],
        f"unchanged: {MOST:g} s and the transfer": unchanged["seconds"] - unchanged["transfer"] <= MOST,
        "one source line: the user's step runs, and what stages its result": len(users) == 1
        and {stage for stage, _ in line["ran"]} == {"program", "staging"},
        "what is staged: the user's step does not run": {stage for stage, _ in staged["ran"]} == {"staging"},
        "the bytes are those of builds alone": all(row["same_as_alone"] for row in cases.values()),
    }
    return [text for text, holds in right.items() if not holds]


def main() -> None:
    """The command line."""
    (kind,) = sys.argv[1:] or ["podman"]
    result = measure(kind)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"fresh-{kind}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    if faults := faults_of(result):
        sys.exit("not so: " + "; ".join(faults))


if __name__ == "__main__":
    main()
