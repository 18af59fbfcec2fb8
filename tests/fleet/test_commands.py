"""Fleets as users have them: commands, files, messages and exit codes."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.main import main
from orchestrator.errors import EngineError
from orchestrator.fleet.client import FleetClient
from orchestrator.fleet.credentials import Role, load_credentials, make_credentials
from orchestrator.fleet.manifests import ManifestSettings, render_manifests
from orchestrator.fleet.messages import JobFile
from tests.build.projects import write_project
from tests.fleet.conftest import RunningFleet, command
from tests.support.cli import orchestrator


def test_status_and_a_worker_without_an_engine(fleet: RunningFleet, tmp_path: Path) -> None:
    """What a worker fails with is said as a build here says it."""
    project = write_project(tmp_path / "p")
    asked = ["build", str(project), "--json", "-o", str(tmp_path / "out")]
    done = orchestrator(*asked, "--fleet", fleet.address, "--tls", fleet.tls, "--progress", "plain")
    there = done.json()
    assert done.code == there["exit_code"] == 3
    assert "unix:///nowhere/engine.sock" in there["error"]
    assert not (tmp_path / "out").exists()
    state = orchestrator("fleet", "status", fleet.address, "--tls", fleet.tls, "--json").json()
    assert [(worker["name"], worker["slots"], worker["running"]) for worker in state["workers"]] == [("here", 1, 0)]
    assert (state["jobs"], state["failed"]) == ([], 1)


def test_a_client_waits_for_a_scheduler_that_starts_again(tmp_path: Path) -> None:
    """Whatever it does just then; one that was never there is a wrong address, and is said to be at once."""
    tls, data = tmp_path / "tls", b"a file"
    make_credentials(tls, ["127.0.0.1"])
    (tmp_path / "file").write_bytes(data)
    file = JobFile(name="p.img", sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def serve(port: object) -> AbstractContextManager[subprocess.Popen[str]]:
        return command("fleet", "serve", "--host", "127.0.0.1", "--port", port, "--tls", tls, "--store",
                       tmp_path / "store", "--dashboard", "none", log=tmp_path / "log")  # fmt: skip

    with serve(0) as scheduler:
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()
        client, stranger = (FleetClient(address, load_credentials(Role.CLIENT, tls)) for _ in range(2))
        assert client.lend(tmp_path / "file", file.sha256, file.size)
        scheduler.kill()
        scheduler.wait()
    with closing(client), closing(stranger), ThreadPoolExecutor(2) as pool:
        with pytest.raises(EngineError, match="no fleet answers there"):
            stranger.lend(tmp_path / "file", file.sha256, file.size)
        fetched = pool.submit(client.fetch, file, tmp_path / "came")
        lent = pool.submit(client.lend, tmp_path / "file", file.sha256, file.size)
        with serve(address.rpartition(":")[2]) as again:
            assert again.stdout is not None
            assert again.stdout.readline().strip() == address
            fetched.result(timeout=20)
            assert not lent.result(timeout=20)
    assert (tmp_path / "came").read_bytes() == data


def test_credentials_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    first = orchestrator("fleet", "init", tmp_path / "tls", "--host", "build.example.org")
    assert (first.code, first.stdout) == (0, f"{tmp_path}/tls\n")
    keys = sorted((tmp_path / "tls").glob("*.key"))
    assert [(key.stem, key.stat().st_mode & 0o777) for key in keys] == [
        ("ca", 0o600), ("client", 0o600), ("scheduler", 0o600), ("worker", 0o600),
    ]  # fmt: skip
    before = {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    (tmp_path / "tls" / "worker.pem").unlink()
    assert orchestrator("fleet", "init", tmp_path / "tls").code == 0
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"worker.pem", "worker.key"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fleet", "tcp://x:1"], "tcp://x:1: is no address of a fleet"),
        (["--fleet", "tls://127.0.0.1:1", "--sign", "k.pem"], "--sign and --fleet exclude each other"),
        (["--label", "gpu"], "--label is for --fleet"),
        (["--fleet", "tls://127.0.0.1:1", "--tls", "nowhere"], "nowhere/ca.pem: there is no such file"),
    ],
)
def test_what_is_no_fleet(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_credentials(tmp_path / "tls", [])
    with pytest.raises(SystemExit) as ended:
        main(["build", str(write_project(tmp_path)), "-o", "out", *options])
    assert ended.value.code == 2
    assert message in capfd.readouterr().err


def test_manifests_fit_together(tmp_path: Path) -> None:
    """Whether each document is right, Kubernetes' schemas say: `make check-manifests`."""
    done = orchestrator(
        "fleet", "manifests", "--image", "x:1", "--namespace", "builds", "--label", "gpu", "--gpus", "2"
    )
    documents = list(yaml.safe_load_all(done.stdout))
    kinds = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert kinds == [
        ("Service", "orchestrator-fleet-scheduler"), ("Deployment", "orchestrator-fleet-scheduler"),
        ("Deployment", "orchestrator-fleet-worker"), ("NetworkPolicy", "orchestrator-fleet-scheduler"),
        ("NetworkPolicy", "orchestrator-fleet-worker"),
    ]  # fmt: skip
    service, scheduler, worker, *policies = (document["spec"] for document in documents)
    pods = [spec["template"]["metadata"]["labels"] for spec in (scheduler, worker)]
    assert [spec["selector"]["matchLabels"] for spec in (scheduler, worker)] == pods
    assert service["selector"] == pods[0]
    assert [policy["podSelector"]["matchLabels"] for policy in policies] == pods
    assert policies[1]["ingress"] == [{"from": [{"podSelector": {"matchLabels": pods[0]}}]}]
    builder, engine = worker["template"]["spec"]["containers"]
    assert "tls://orchestrator-fleet-scheduler.builds.svc:8786" in builder["command"]
    assert builder["args"][-2:] == ["--label", "gpu"]
    assert builder["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    assert engine["command"][-1] == builder["args"][builder["args"].index("--engine") + 1]


def test_manifests_of_a_fleet_with_a_page() -> None:
    """It has a Service of its own, and who is in the cluster's other namespaces does not reach it."""
    settings = ManifestSettings(image="x:1", web=True)
    plain, more = (list(yaml.safe_load_all(render_manifests(it))) for it in (replace(settings, web=False), settings))
    assert len(more) == len(plain) + 1
    service, scheduler, policy = more[1]["spec"], more[2]["spec"]["template"]["spec"], more[4]["spec"]
    assert more[1]["metadata"]["name"] == "orchestrator-fleet-web"
    (container,) = scheduler["containers"]
    (port,) = service["ports"]
    assert f"0.0.0.0:{port['targetPort']}" in container["args"]
    assert {"name": "web", "containerPort": port["targetPort"]} in container["ports"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"{mounts['web']}/token" in container["args"]
    assert policy["ingress"][1] == {"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 8788}]}
