"""The vsock bridge: the program's vsock connection reaches a Unix socket of the host."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
from tests.support.packed import Packed

SOURCE = """
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = 2, .svm_port = 8080}, peer = {0};
    int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) { perror("socket"); return 1; }
    if (connect(s, (struct sockaddr *) &to, sizeof to)) { perror("connect"); return 2; }
    socklen_t n = sizeof peer;
    if (getpeername(s, (struct sockaddr *) &peer, &n)) { perror("getpeername"); return 3; }
    printf("%d %d %u %u\\n", peer.svm_family == AF_VSOCK, n == sizeof peer, peer.svm_cid, peer.svm_port);
    char answer[8] = "";
    if (write(s, "task?", 5) != 5 || read(s, answer, 7) < 0) return 4;
    puts(answer);
    return 0;
}
"""


def test_a_connection_reaches_the_handlers_socket(packed: Packed, rehearsal_engine: str, tmp_path: Path) -> None:
    asked: list[object] = []
    with socket.socket(socket.AF_UNIX) as node:
        node.bind(str(tmp_path / "node"))
        node.listen()

        def serve() -> None:
            connection, _ = node.accept()
            with connection:
                asked.append(connection.recv(5))
                connection.sendall(b"square")

        server = threading.Thread(target=serve, daemon=True)
        server.start()

        def handler(cid: int, port: int) -> Path | None:
            asked.append((cid, port))
            return tmp_path / "node"

        done = rehearse(packed.image(SOURCE), RehearseOptions(engine=rehearsal_engine, timeout=20, vsock=handler))
        server.join(5)
    assert (done.run.exit_code, done.run.output["stderr"]) == (0, b"")
    assert done.run.output["stdout"] == b"1 1 2 8080\nsquare\n"
    assert asked == [(2, 8080), b"task?"]
    assert not done.run.violations


DUPLICATE = """
#include <linux/vm_sockets.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un to = {AF_UNIX, "\\0orchestrator-test-vsock"}, mine = {AF_UNIX, "\\0orchestrator-test-mine"};
    socklen_t n = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(to.sun_path + 1);
    int s = dup(socket(AF_VSOCK, SOCK_STREAM, 0));
    if (s < 0) return 1;
    if (!connect(s, (struct sockaddr *) &to, n)) return 2;
    socklen_t m = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(mine.sun_path + 1);
    return !bind(s, (struct sockaddr *) &mine, m) && !listen(s, 1) ? 3 : 0;
}
"""


def test_a_bridged_socket_is_no_way_to_this_machines_sockets(packed: Packed, rehearsal_engine: str) -> None:
    with socket.socket(socket.AF_UNIX) as host:
        host.bind("\0orchestrator-test-vsock")
        host.listen()
        done = rehearse(
            packed.image(DUPLICATE), RehearseOptions(engine=rehearsal_engine, vsock=lambda _cid, _port: None)
        )
    assert done.run.exit_code == 0, done.run


def test_a_refused_port_and_no_handler(packed: Packed, rehearsal_engine: str) -> None:
    image = packed.image(SOURCE)
    refused = rehearse(image, RehearseOptions(engine=rehearsal_engine, vsock=lambda _cid, _port: None))
    assert (refused.run.exit_code, refused.run.output["stderr"]) == (2, b"connect: Connection reset by peer\n")
    alone = rehearse(image, RehearseOptions(engine=rehearsal_engine))
    assert alone.run.exit_code == 2  # the guest has vsock, and nobody answers
    assert "connected to 2:8080 by vsock" in str(alone.run.violations[0])
