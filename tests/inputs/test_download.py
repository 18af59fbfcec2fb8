from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.events import Event, Notice, StepFinished, StepProgress, StepStarted
from orchestrator.inputs.access import Access, FetchLimits
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import Store
from orchestrator.inputs.transmission import tls_context
from tests.inputs.conftest import QUICK, leftovers
from tests.support.servers import Fault, FileServer, file_server

DATA = random.Random(1).randbytes(700_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_downloads_once_and_reports_progress(access: Access, server: FileServer, events: list[Event]) -> None:
    url = server.add("/a.tar.gz", DATA)
    entry = fetch(access, url)
    assert entry.path.read_bytes() == DATA
    assert entry.sha256 == DIGEST
    assert fetch(access, url) == entry
    assert server.count("/a.tar.gz") == 1
    assert isinstance(events[0], StepStarted)
    assert events[0].stage == "inputs"
    assert [e.done for e in events if isinstance(e, StepProgress)][-1] == len(DATA)
    assert [e.cached for e in events if isinstance(e, StepFinished)] == [False, True]


def test_pinned_content_is_found_whatever_the_url(access: Access, server: FileServer) -> None:
    fetch(access, server.add("/a", DATA))
    fetch(access, server.url + "/never-asked", sha256=DIGEST)
    assert server.count("/never-asked") == 0


def test_plain_http_that_nothing_pins_is_a_warning(access: Access, server: FileServer, events: list[Event]) -> None:
    def warnings() -> list[str]:
        return [event.text for event in events if isinstance(event, Notice) and event.level == "warning"]

    for url, pin in (
        ("http://mirror.invalid/a", DIGEST),
        ("https://mirror.invalid/a", None),
        (server.add("/a", DATA), None),
    ):
        with suppress(InputError):
            fetch(access, url, sha256=pin)
    assert warnings() == []
    with pytest.raises(InputError):
        fetch(access, "http://mirror.invalid/a")
    assert "is fetched over http" in warnings()[0]


@pytest.mark.parametrize("kind", ["reset", "truncate", "stall"])
def test_resumes_after_a_break(access: Access, server: FileServer, kind: str) -> None:
    url = server.add("/a", DATA, Fault(kind, at=300_000))
    assert fetch(access, url).sha256 == DIGEST
    second = server.seen[1].headers
    assert int(second["range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert second["if-range"].startswith('"')


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"ranges": False}, "reset"),
        ({"validators": False}, "reset"),
        ({}, "weak"),
        ({}, "garbage-range"),
        ({}, "other-file"),
    ],
)
def test_restarts_where_ranges_cannot_be_trusted(
    access: Access, server: FileServer, options: dict[str, bool], fault: str
) -> None:
    faults = [Fault("reset", at=300_000)] if fault == "reset" else [Fault("reset", at=300_000), Fault(fault)]
    assert fetch(access, server.add("/a", DATA, *faults, **options)).sha256 == DIGEST


def test_file_that_changes_between_tries_is_never_mixed(access: Access, server: FileServer) -> None:
    url = server.add("/a", DATA, Fault("reset", at=300_000))
    other = DATA[::-1]

    def swap() -> None:
        while not server.seen:
            time.sleep(0.001)
        server.files["/a"].data = other

    thread = threading.Thread(target=swap)
    thread.start()
    entry = fetch(access, url)
    thread.join()
    assert entry.path.read_bytes() in (DATA, other)


def test_many_breaks_with_progress_are_more_than_the_attempts(access: Access, server: FileServer) -> None:
    url = server.add("/a", DATA, *[Fault("reset", at=80_000)] * 7)
    assert fetch(access, url).sha256 == DIGEST


def test_gives_up_where_nothing_comes(access: Access, server: FileServer, store: Store) -> None:
    url = server.add("/a", DATA, always=Fault("drop"))
    with pytest.raises(InputError, match=r"tried 3 times") as caught:
        fetch(access, url)
    assert caught.value.exit_code == 4
    assert server.count("/a") == 3
    assert leftovers(store) == []
    assert store.list() == []


def test_a_large_file_that_breaks_five_times_is_resumed_not_begun_again(access: Access, server: FileServer) -> None:
    # 50 MB, so that the tests stay quick; 500 MB behave the same.
    block = bytes(range(256)) * 4096
    data = b"".join(block[n:] + block[:n] for n in range(48))
    at = len(data) // 6
    url = server.add("/large", data, *[Fault("reset", at=at)] * 5)
    entry = fetch(access, url)
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    asked = [int(request.headers.get("range", "bytes=0-")[6:-1]) for request in server.seen]
    assert len(asked) == 6
    assert asked == sorted(set(asked))
    # What a reset throws away on its way is at most what the connection holds: some megabytes of 50.
    assert server.sent < len(data) * 1.3


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_retries_what_may_pass(access: Access, server: FileServer, status: int) -> None:
    url = server.add("/a", DATA, Fault("status", status=status), Fault("status", status=status))
    assert fetch(access, url).sha256 == DIGEST


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_does_not_retry_what_will_not(access: Access, server: FileServer, status: int) -> None:
    url = server.add("/a", DATA, always=Fault("status", status=status))
    with pytest.raises(InputError, match=f"answered {status}"):
        fetch(access, url)
    assert server.count("/a") == 1


def test_retry_after_is_honoured(access: Access, server: FileServer) -> None:
    url = server.add("/a", DATA, Fault("status", status=429, retry_after="1"))
    started = time.monotonic()
    assert fetch(access, url).sha256 == DIGEST
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_beyond_the_time_limit_ends_at_once(access: Access, server: FileServer, as_date: bool) -> None:
    value = formatdate(time.time() + 100_000, usegmt=True) if as_date else "100000"
    url = server.add("/a", DATA, always=Fault("status", status=503, retry_after=value))
    with pytest.raises(InputError, match="asks to wait"):
        fetch(access, url)
    assert server.count("/a") == 1


@pytest.mark.parametrize("kind", ["slow-headers", "slow-body"])
def test_a_server_that_drips_does_not_outlast_the_time_limit(store: Store, server: FileServer, kind: str) -> None:
    url = server.add("/a", DATA, always=Fault(kind), validators=False)
    limits = replace(QUICK, stall=0.5, total=0.7, attempts=100)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"did not finish within 0\.7 s"):
        fetch(Access(store=store, limits=limits), url)
    assert time.monotonic() - began < 5
    assert leftovers(store) == []


def test_a_header_that_drips_ends_each_try(store: Store, server: FileServer) -> None:
    """Long before the time limit of the whole download; and a server that answers the next try is used."""
    url = server.add("/a", DATA, always=Fault("slow-headers"))
    limits = replace(QUICK, answer=0.4, total=3600, attempts=3)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no whole answer within 0\.4 s \(tried 3 times\)"):
        fetch(Access(store=store, limits=limits), url)
    assert time.monotonic() - began < 5
    assert leftovers(store) == []
    recovering = server.add("/b", DATA, Fault("slow-headers"))
    assert fetch(Access(store=store, limits=limits), recovering).sha256 == DIGEST


def test_total_time_is_limited(store: Store, server: FileServer) -> None:
    url = server.add("/a", DATA, always=Fault("stall", at=100_000), validators=False)
    limits = replace(QUICK, stall=0.2, total=0.5, attempts=100)
    with pytest.raises(InputError):
        fetch(Access(store=store, limits=limits), url)
    assert leftovers(store) == []


def test_mismatch_names_both_and_keeps_nothing(access: Access, server: FileServer, store: Store) -> None:
    url = server.add("/a", DATA, always=Fault("corrupt", at=5))
    with pytest.raises(InputError) as caught:
        fetch(access, url, sha256=DIGEST)
    assert DIGEST in caught.value.message
    assert caught.value.message.count("sha256 is ") == 1
    assert store.list() == []
    assert leftovers(store) == []


def test_check_refuses_before_anything_is_kept(access: Access, server: FileServer, store: Store) -> None:
    def refuse(path: Path) -> None:
        raise InputError("not this")

    with pytest.raises(InputError, match="not this"):
        fetch(access, server.add("/a", DATA), check=refuse)
    assert store.list() == []


def test_too_large_by_header_and_by_body(store: Store, server: FileServer) -> None:
    access = Access(store=store, limits=replace(QUICK, size=100_000))
    for options in ({}, {"length": False}):
        with pytest.raises(InputError, match="the limit is"):
            fetch(access, server.add("/a", DATA, **options))
    assert leftovers(store) == []


def test_redirect_to_another_host_drops_credentials(access: Access, server: FileServer) -> None:
    url = server.add("/a", b"", Fault("redirect", location=server.other_url + "/b"))
    server.add("/b", DATA)
    fetch(access, url.replace("http://", "http://user:secret@"))
    assert server.seen[0].headers["authorization"].startswith("Basic ")
    assert server.seen[1].path == "/b"
    assert "authorization" not in server.seen[1].headers


def test_netrc_gives_credentials_but_not_across_hosts(
    access: Access, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.add("/b", DATA)
    fetch(access, server.add("/a", b"", Fault("redirect", location=server.other_url + "/b")))
    assert "authorization" in server.seen[0].headers
    assert "authorization" not in server.seen[1].headers


def test_credentials_do_not_show(access: Access, server: FileServer, events: list[Event], store: Store) -> None:
    url = server.add("/a", DATA).replace("http://", "http://user:secret@") + "?token=hidden"
    fetch(access, url)
    with pytest.raises(InputError) as caught:
        fetch(access, url.replace("/a", "/missing"))
    everything = f"{events}{caught.value.message}{store.list()}"
    assert "secret" not in everything
    assert "hidden" not in everything


def test_endless_redirects_end(access: Access, server: FileServer) -> None:
    url = server.add("/a", b"", always=Fault("redirect", location="/a"))
    with pytest.raises(InputError, match="redirects"):
        fetch(access, url)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x"])
def test_redirect_to_another_scheme_is_refused(access: Access, server: FileServer, location: str) -> None:
    with pytest.raises(InputError):
        fetch(access, server.add("/a", b"", always=Fault("redirect", location=location)))


@pytest.mark.parametrize("url", ["ftp://h/x", "/etc/passwd", "x", "http://", "http://[", "http://h:port/", ""])
def test_urls_that_are_none(access: Access, url: str) -> None:
    with pytest.raises(InputError):
        fetch(access, url)


def test_file_url(access: Access, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(DATA)
    assert fetch(access, (tmp_path / "a file").as_uri()).sha256 == DIGEST
    with pytest.raises(InputError, match="No such file"):
        fetch(access, (tmp_path / "none").as_uri())
    with pytest.raises(InputError, match="another host"):
        fetch(access, "file://elsewhere/x")


def test_mirrors_longest_prefix_wins(store: Store, server: FileServer) -> None:
    server.add("/m/file", DATA)
    mirrors = {"https://vendor.example/": "http://127.0.0.1:1/", "https://vendor.example/files/": server.url + "/m/"}
    entry = fetch(Access(store=store, limits=QUICK, mirrors=mirrors), "https://vendor.example/files/file")
    assert entry.sha256 == DIGEST
    assert entry.info == {"source": "https://vendor.example/files/file", "from": server.url + "/m/file"}


def test_refresh_asks_again(store: Store, server: FileServer) -> None:
    url = server.add("/a", b"old")
    access = Access(store=store, limits=QUICK)
    assert fetch(access, url).path.read_bytes() == b"old"
    server.add("/a", b"new")
    assert fetch(access, url).path.read_bytes() == b"old"
    assert fetch(replace(access, refresh=True), url).path.read_bytes() == b"new"


def test_proxy_from_the_environment(access: Access, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("/a", DATA)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    fetch(access, "http://nowhere.invalid/a")
    assert server.seen[0].headers["host"] == "nowhere.invalid"
    monkeypatch.setenv("http_proxy", "nonsense://x")
    with pytest.raises(InputError, match="proxy settings"):
        fetch(access, "http://nowhere.invalid/b")


def test_certificate_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tls_context().verify_mode.name == "CERT_REQUIRED"
    (tmp_path / "ca.crt").write_text("no certificate")
    for named in (tmp_path / "ca.crt", tmp_path / "missing"):
        monkeypatch.setenv("SSL_CERT_FILE", str(named))
        with pytest.raises(InputError, match="SSL_CERT_FILE"):
            tls_context()


def test_cancelled_download_stops(access: Access, server: FileServer, store: Store) -> None:
    url = server.add("/a", DATA, always=Fault("stall", at=100_000))
    threading.Timer(0.2, access.cancelled.set).start()
    with pytest.raises(InputError):
        fetch(replace(access, limits=replace(QUICK, attempts=1000)), url)
    assert leftovers(store) == []


def test_two_processes_download_once(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a", DATA, Fault("stall", at=200_000))
    code = f"""
import os
from pathlib import Path
from orchestrator.inputs.access import Access, FetchLimits
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import Store
limits = FetchLimits(stall=0.5, backoff=0.01)
print(fetch(Access(store=Store(Path({str(tmp_path / "cache")!r})), limits=limits), {url!r}).sha256)
"""
    workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {worker.communicate()[0].strip() for worker in workers} == {DIGEST}
    assert server.count("/a") == 2  # the one that stalled, and its continuation


faults = st.one_of(
    st.builds(Fault, st.sampled_from(["reset", "truncate", "corrupt"]), at=st.integers(0, 70_000)),
    st.builds(Fault, st.just("status"), status=st.sampled_from([429, 500, 503, 404])),
    st.builds(Fault, st.sampled_from(["weak", "garbage-range", "drop", "html"])),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schedule=st.lists(faults, max_size=5),
    ranges=st.booleans(),
    validators=st.booleans(),
    length=st.booleans(),
)
def test_any_faults_end_in_the_right_file_or_an_error(
    schedule: list[Fault], ranges: bool, validators: bool, length: bool
) -> None:
    data = DATA[:65_000]
    digest = hashlib.sha256(data).hexdigest()
    with file_server() as server, tempfile.TemporaryDirectory() as directory:
        url = server.add("/a", data, *schedule, ranges=ranges, validators=validators, length=length)
        store = Store(Path(directory))
        limits = FetchLimits(connect=2, stall=2, total=20, attempts=3, backoff=0.001, backoff_max=0.002)
        try:
            entry = fetch(Access(store=store, limits=limits), url, sha256=digest)
        except InputError:
            assert store.list() == []
            assert leftovers(store) == []
        else:
            assert entry.path.read_bytes() == data
