"""Two processes, two projects, the same inputs: each is fetched once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.inputs.test_git import git, repository, served
from tests.inputs.test_releases import add_nanos, add_ops, elf
from tests.support.cli import orchestrator
from tests.support.servers import Fault, FileServer, GitServer

__all__ = ["repository", "served"]
YAML = """\
name: {name}
base: docker.io/library/rust:bookworm
build: {{run: make, program: demo}}
packer: ops
ops: {{version: 0.1.43}}
nanos: {{version: "0.1.51"}}
gevulot: {{git: {git}/source, ref: {commit}}}
mirrors: {{"https://storage.googleapis.com/": "{url}/"}}
"""


def render(folder: Path, cache: Path) -> None:
    env = {"ORCHESTRATOR_CACHE_DIR": str(cache), "no_proxy": "*"}
    done = orchestrator("render", folder / "project.yaml", "-o", folder / "out", env=env)
    assert done.code == 0, done.stderr


def test_each_input_is_fetched_once(tmp_path: Path, server: FileServer, repository: Path, served: GitServer) -> None:
    add_nanos(server)
    add_ops(server, elf(200_000), None)
    for path in list(server.files):  # long enough for the other process to come along
        server.files[path].faults.append(Fault("status", status=503, retry_after="1"))
    commit = git(repository, "rev-parse", "main")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        text = YAML.format(name=name, git=served.url, commit=commit, url=server.url)
        (tmp_path / name / "project.yaml").write_text(text)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: render(tmp_path / name, tmp_path / "cache"), ("one", "two")))
    counts = Counter(request.path for request in server.seen)
    md5 = {path: times for path, times in counts.items() if path.endswith(".md5")}
    # The refusal and the answer, of one process. An MD5 that isn't there is asked for by one as well.
    assert set((counts - Counter(md5)).values()) == {2}, counts
    assert set(md5.values()) == {1}, counts
    both = len(served.requests)
    render(tmp_path / "one", tmp_path / "fresh")
    assert len(served.requests) == 2 * both  # as many as one process makes for itself
    ones, twos = ((tmp_path / name / "out/nanos") for name in ("one", "two"))
    assert sorted(p.name for p in ones.iterdir()) == sorted(p.name for p in twos.iterdir())
