"""Programs that do what the guest can't, each reported rightly wherever they are rehearsed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orchestrator.run.sandbox.rehearsal import RehearseOptions, rehearse
from tests.support.packed import Packed

HEAD = """
#include <errno.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *p) { return p; }
int main(int argc, char **argv) {
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A program and what is said of it."""

    source: str
    end: str = "exit"
    exit_code: int | None = 0
    signal: str | None = None
    says: tuple[str, ...] = ()
    stdout: str = ""
    stops: bool = False


CASES = {
    "fine": Case(
        source='printf("%d %s %s %d\\n", argc, argv[2], getenv("GREETING"), getenv("PATH") != 0); return 0;',
        stdout="3 two words hello 0\n",
    ),
    "threads": Case(
        source="""pthread_t t[4]; for (int i = 0; i < 4; i++) if (pthread_create(&t[i], 0, work, 0)) return 9;
        for (int i = 0; i < 4; i++) pthread_join(t[i], 0); puts("joined"); return 0;""",
        stdout="joined\n",
    ),
    "fork": Case(
        source='if (fork() < 0) { printf("%d\\n", errno == ENOSYS); return 4; } return 0;',
        exit_code=4,
        stdout="1\n",
        says=("the program called fork (clone without CLONE_VM) at /", "; Nanos cannot"),
    ),
    "exec": Case(
        source='execl("/bin/sh", "sh", (char *) 0); return 5;',
        exit_code=5,
        says=("the program called exec of /bin/sh at /",),
    ),
    "vfork": Case(
        source="pid_t p = vfork(); if (p == 0) _exit(0); return p < 0 ? 6 : 0;", exit_code=6, says=("called vfork",)
    ),
    "system": Case(source='return system("true") == 0 ? 0 : 7;', exit_code=7, says=("posix_spawn",)),
    "socket": Case(
        source="""struct sockaddr_in to = {AF_INET, htons(80), {htonl(0x0a000001)}};
        int s = socket(AF_INET, SOCK_STREAM, 0); if (s < 0) return 1;
        return connect(s, (struct sockaddr *) &to, sizeof to) < 0 ? 8 : 0;""",
        exit_code=8,
        says=("connected to 10.0.0.1:80", "no network"),
    ),
    "unix socket": Case(
        source="int s[2]; return socketpair(AF_UNIX, SOCK_STREAM, 0, s) || socket(AF_UNIX, SOCK_STREAM, 0) < 0;"
    ),
    "other socket": Case(
        source="return socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT ? 8 : 0;",
        exit_code=8,
        says=("opened a socket (AF_PACKET)",),
    ),
    "write": Case(
        source="""FILE *ok = fopen("/workspace/out", "w"); if (!ok) return 1; fputs("x", ok); fclose(ok);
        return fopen("/out", "w") || errno != EROFS ? 2 : 0;""",
        says=("opened /out for writing", "only /workspace can be written"),
    ),
    "loopback": Case(
        source="""struct sockaddr_in at = {AF_INET, htons(9001), {htonl(INADDR_LOOPBACK)}}; int n = sizeof at;
        int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(l, (void *) &at, n) || listen(l, 1) || connect(c, (void *) &at, n)) return 1;
        int s = accept(l, 0, 0); char b[3] = ""; write(c, "hi", 2); read(s, b, 2); puts(b);
        at.sin_port = htons(9); c = socket(AF_INET, SOCK_STREAM, 0);
        return connect(c, (void *) &at, n) == 0 || errno != ECONNRESET;""",
        stdout="hi\n",
    ),
    "no such call": Case(
        source="for (int i = 0; i < 3; i++) if (syscall(SYS_memfd_create, \"m\", 0) >= 0 || errno != ENOSYS) return 1;",
        says=("the program called memfd_create at /", "Nanos has no such call (ENOSYS) (3 times)"),
    ),
    "quiet calls": Case(source="return syscall(SYS_rseq, 0, 0, 0, 0) == 0 || errno != ENOSYS;"),
    "many writes": Case(
        source="""char p[9];
        for (int i = 0; i < 136; i++) { sprintf(p, "/f%d", i); if (creat(p, 0600) >= 0) return 1; }""",
        says=("opened /f0 for writing", "and 135 more: /f1, /f2, /f3, /f4, … (136 times)"),
    ),
    "statfs of the share": Case(
        source='struct statvfs s; return statvfs("/etc", &s) == 0 || statvfs("/workspace", &s);',
        says=("called statfs on /workspace at /", "page fault in the kernel"),
        stops=True,
    ),
    "fstatfs of the share": Case(
        source='struct statvfs s; return fstatvfs(open("/workspace/a", O_CREAT | O_RDWR, 0600), &s);',
        says=("called fstatfs on /workspace/a at /", "page fault in the kernel"),
        stops=True,
    ),
    "unlink of an open file": Case(
        source="""int f = open("/workspace/t", O_CREAT | O_RDWR, 0600); unlink("/workspace/t"); write(f, "abc", 3);
        return close(f);""",
        says=("called unlink on /workspace/t while it was open at /", "closing it hangs the machine", "Nanos 0.1.53"),
        stops=True,
    ),
    "unlink of a closed file": Case(
        source='close(open("/workspace/t", O_CREAT | O_RDWR, 0600)); return unlink("/workspace/t");'
    ),
    "unlink of a written file": Case(
        source="""int f = open("/workspace/t", O_CREAT | O_RDWR, 0600); write(f, "abc", 3); close(f);
        return unlink("/workspace/t");""",
        says=("called unlink on /workspace/t soon after writing it at /", "Nanos sometimes hangs there"),
    ),
    "rename over an open file": Case(
        source="""close(open("/workspace/a", O_CREAT | O_RDWR, 0600)); open("/workspace/b", O_CREAT | O_RDWR, 0600);
        return rename("/workspace/a", "/workspace/b");""",
        says=("called rename on /workspace/b while it was open",),
        stops=True,
    ),
    "memory": Case(
        source="for (int i = 0; i < 400; i++) memset(malloc(1 << 20), 1, 1 << 20); return 0;",
        end="memory",
        exit_code=None,
        signal="SIGKILL",
    ),
    "abort": Case(source="abort();", end="signal", exit_code=None, signal="SIGABRT"),
    "segfault": Case(source="*(volatile int *) 8 = 1;", end="signal", exit_code=None, signal="SIGSEGV"),
    "three": Case(source='fputs("sorry", stderr); return 3;', exit_code=3),
    "hang": Case(source='puts("on"); fflush(stdout); for (;;) pause();', end="timeout", exit_code=None,
                 signal="SIGKILL", stdout="on\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_is_reported_rightly(packed: Packed, rehearsal_engine: str, name: str) -> None:
    case = CASES[name]
    image = packed.image(HEAD + case.source + "}")
    timeout = 2 if case.end == "timeout" else 60
    done = rehearse(image, RehearseOptions(engine=rehearsal_engine, memory=96, cpus=1, timeout=timeout))
    run = done.run
    said = [str(violation) for violation in run.violations]
    assert (run.end, run.exit_code, run.signal) == (case.end, case.exit_code, case.signal), (run, said)
    assert run.output["stdout"].decode() == case.stdout
    assert len(said) == (1 if case.says else 0), said
    for words in case.says:
        assert words in said[0]
    assert run.peak
    assert done.ok is (case.exit_code == 0 and not case.stops)
    assert [violation.severity for violation in run.violations] == (
        ["error" if case.stops else "limit"] if case.says else []
    )
    if case.end == "memory":
        assert run.reason == "the program exceeded 96 MiB of memory and was stopped"


def test_a_trace_names_what_was_missing(packed: Packed, rehearsal_engine: str) -> None:
    source = 'dlopen("libabsent.so.2", RTLD_NOW); fopen("/params/kzg.srs", "r"); fopen("/workspace/no", "r"); return 0;'
    done = rehearse(packed.image(HEAD + source + "}"), RehearseOptions(engine=rehearsal_engine, trace=True))
    assert done.missing is not None
    assert list(done.missing.lines()) == ["stage:", "  extra: [libabsent.so.2]", "  files: [params/kzg.srs]"]
