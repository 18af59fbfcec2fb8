"""Sources from git: a ref resolved to a commit, the commit fetched alone where the server allows, its tree exported."""

from __future__ import annotations

import base64
import difflib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator import files, process
from orchestrator.errors import InputError
from orchestrator.events import Notice
from orchestrator.inputs import git_proof
from orchestrator.inputs.access import Access, not_in_cache, warn_of_plain
from orchestrator.inputs.store import IMPORTED, CacheEntry, key_of
from orchestrator.resolved import redact, redact_url

PROTOCOLS = "http:https:ssh:git:file"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,63}")
# What another try won't mend (git has one exit status for all; LC_ALL=C fixes the words).
_FINAL = re.compile(
    r"not found|does not exist|does not appear to be a git|Authentication failed|could not read Username"
    r"|Permission denied|not allowed|dubious ownership|certificate|returned error: 4\d\d|not our ref|unadvertised",
    re.IGNORECASE,
)


class _TransientError(Exception):
    """git failed in a way that another try may mend."""


def is_commit(ref: str) -> bool:
    """Whether a ref is a commit's whole id, which says what its tree must be."""
    return _COMMIT.fullmatch(ref) is not None


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A commit's tree in the cache (no .git)."""

    commit: str
    entry: CacheEntry


def fetch_git(access: Access, url: str, ref: str, *, commit: str | None = None, tree: str = "") -> Checkout:
    """The tree of `ref` (branch, tag, commit, abbreviated commit, or HEAD) of the repository `url`.

    With `commit` (the lock's), nobody is asked what `ref` is now. The same commit gives the same tree on any host.
    What a bundle says is that commit, and nothing proves, is taken where it has the lock's SHA-256, `tree`.
    Errors: InputError for an unknown ref (with the nearest ones), a repository that doesn't answer, a missing git.
    """
    real = access.redirected(url)
    shown = redact_url(real)
    if real.startswith("-") or ref.startswith("-") or not ref or re.search(r"[\s\0~^:?*\[\\]", ref):
        raise InputError(f"{shown}: {ref!r} is not a git ref", remedy="name a branch, a tag or a commit")
    if process.which("git") is None:
        raise InputError("git is not installed, but the project has a git input", remedy="install the package git")
    repository = _Repository(access=access, url=real, shown=shown)
    with access.step(f"fetch {shown} {ref}") as step:
        if commit is None and not _COMMIT.fullmatch(ref):
            warn_of_plain(access, real, shown, "use https or ssh, or name a commit by its full id")
            commit = repository.resolve(ref)
        commit = commit or ref
        key = f"git-{commit}"
        _forget_unbelieved(access, key, tree, shown)
        step.cached = True

        def fill(target: Path) -> Mapping[str, str]:
            step.cached = False
            return repository.export(commit, target)

        entry = access.store.put(key, fill)
        repository.warn_of_submodules(entry)
    return Checkout(commit=entry.info.get("commit", commit), entry=entry)


def _forget_unbelieved(access: Access, key: str, tree: str, shown: str) -> None:
    """Remove from the cache what a bundle brought, and neither proves itself nor is as the lock says."""
    entry = access.store.get(key)
    if entry is None or IMPORTED not in entry.info or entry.sha256 == tree:
        return
    if not access.offline:
        access.store.remove(key)
        return
    if tree:
        return  # the caller compares it with the lock, and says how it differs
    raise InputError(
        f"{shown}: nothing proves that the bundle's {key.removeprefix('git-')} is that commit, and no lock says so",
        remedy="copy project.lock along with the bundle, or build with network access",
    )


@dataclass(kw_only=True)
class _Repository:
    """A remote repository and its bare copy in the cache."""

    access: Access
    url: str
    shown: str

    @property
    def key(self) -> str:
        return key_of("repo", self.url)

    @property
    def path(self) -> Path:
        return self.access.store.root / "git" / f"{self.key}.git"

    def resolve(self, ref: str) -> str:
        """The commit that `ref` is now. Where the server doesn't answer, what it was when last asked, and says so."""
        name = key_of("ref", self.url, ref)
        known = self.access.store.named(name)
        if self.access.offline:
            if known is None:
                raise not_in_cache(f"{self.shown} {ref}")
            return known["commit"]
        try:
            commit = self._resolve_now(ref)
        except _TransientError as error:
            if known is None or self.access.refresh:
                raise self._unreachable(str(error)) from error
            age = max(0.0, time.time() - float(known["asked"])) / 3600
            self.access.emit(
                Notice(
                    text=f"{self.shown} does not answer; using {ref} as of {age:.1f} hours ago: {known['commit']}",
                    level="warning",
                )
            )
            return known["commit"]
        self.access.store.name(name, f"git-{commit}", {"commit": commit, "asked": f"{time.time():.0f}"})
        return commit

    def _resolve_now(self, ref: str) -> str:
        refs = self._list()
        for candidate in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"):
            # An annotated tag is listed twice: itself, and with ^{} the commit that it names.
            commit = refs.get(f"{candidate}^{{}}") or refs.get(candidate)
            if commit is not None:
                return commit
        if _ABBREVIATED.fullmatch(ref):
            with self._locked():
                self._fetch_all()
                done = self._git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
            if done.status == 0:
                return done.stdout.strip()
        names = {re.sub(r"^refs/(heads|tags)/", "", name) for name in refs if not name.endswith("^{}")}
        near = difflib.get_close_matches(ref, sorted(names), n=5, cutoff=0.4) or sorted(names)[:5]
        raise InputError(
            f"{self.shown} has no ref {ref!r}",
            remedy=f"nearest: {', '.join(near)}" if near else "the repository is empty",
        )

    def _list(self) -> dict[str, str]:
        done = self._remote("ls-remote", "--", self.url)
        lines = (line.split("\t", 1) for line in done.stdout.split("\n") if "\t" in line)
        return {name: commit for commit, name in lines}

    def export(self, commit: str, target: Path) -> Mapping[str, str]:
        """Fetch `commit` and write its files to the new directory `target`."""
        with self._locked():
            if self._git("cat-file", "-e", f"{commit}^{{commit}}").status != 0:
                if self.access.offline:
                    raise not_in_cache(f"{self.shown} at {commit}")
                self._fetch(commit)
            peeled = self._git("rev-parse", "--verify", f"{commit}^{{commit}}").stdout.strip()
            files.make_directory(target)
            index = target.with_name("index")
            # checkout-index, not git archive: archive leaves out and rewrites what .gitattributes marks for
            # export, and a build wants what a clone has. The user's filters (LFS, line ends) stay out.
            quiet = {"GIT_INDEX_FILE": str(index), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
            for arguments in (
                ("read-tree", peeled),
                ("-c", "core.autocrlf=false", "checkout-index", "--all", "--force", f"--prefix={target}/"),
            ):
                done = self._git(*arguments, env=quiet)
                if done.status != 0:
                    raise InputError(f"{self.shown}: {commit} could not be written out: {redact(done.tail(4))}")
            modules = self._git("ls-tree", "-r", peeled).stdout
            index.unlink(missing_ok=True)
            data = self._git("cat-file", "commit", peeled).output
        links = [line.split("\t", 1) for line in modules.split("\n") if line.startswith("160000 ")]
        return {
            "source": redact_url(self.url),
            "commit": peeled,
            "submodules": " ".join(path for _, path in links),
            git_proof.COMMIT: base64.b64encode(data).decode(),
            git_proof.MODULES: "\n".join(f"{about.split()[-1]} {path}" for about, path in links),
        }

    def warn_of_submodules(self, entry: CacheEntry) -> None:
        """Say which submodules the exported tree lacks."""
        if entry.info.get("submodules"):
            self.access.emit(
                Notice(
                    text=f"{self.shown}: submodules are not fetched; these directories are empty: "
                    + entry.info["submodules"],
                    level="warning",
                )
            )

    def _fetch(self, commit: str) -> None:
        arguments = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", "--", self.url, commit)
        try:
            self._remote(*arguments)
            return
        except (InputError, _TransientError) as error:
            reason = str(error)
        # Not every server gives out a single commit (dumb http, old ones): take all, then look.
        try:
            self._fetch_all()
        except _TransientError as error:
            raise self._unreachable(str(error)) from error
        if self._git("cat-file", "-e", f"{commit}^{{commit}}").status != 0:
            raise InputError(
                f"{self.shown} has no commit {commit} on a branch or tag ({reason})",
                remedy="check the commit id and that it was pushed",
            )

    def _fetch_all(self) -> None:
        unshallow = ("--unshallow",) if (self.path / "shallow").exists() else ()
        self._remote(
            "fetch", "--quiet", "--force", "--no-write-fetch-head", *unshallow, "--", self.url,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*",
        )  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the repository's copy, which is made if there is none."""
        with self.access.store.lock(self.key):
            if not (self.path / "HEAD").is_file():
                # What `git init --bare` makes, without its templates, hooks and the caller's settings.
                for name in ("objects", "refs"):
                    files.make_directory(self.path / name)
                files.write_text(self.path / "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
                files.write_text(self.path / "HEAD", "ref: refs/heads/main\n")
            yield

    def _remote(self, *arguments: str) -> process.CompletedProcess:
        """Run git against the remote, with retries. InputError when final, _TransientError when all tries failed."""
        # Here: it brings asyncio along, and most builds ask no remote.
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_attempt(min(3, self.access.limits.attempts)),
            wait=wait_random_exponential(multiplier=self.access.limits.backoff, max=self.access.limits.backoff_max),
            reraise=True,
        )
        return retrying(self._remote_once, *arguments)

    def _remote_once(self, *arguments: str) -> process.CompletedProcess:
        stall = max(1, int(self.access.limits.stall))
        slow = ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={stall}")
        try:
            done = self._git(*slow, *arguments, timeout=self.access.limits.total)
        except TimeoutError as error:
            raise self._unreachable(str(error)) from error
        if done.status == 0:
            return done
        tail = redact(done.tail(4))
        if _FINAL.search(tail):
            raise self._unreachable(tail)
        raise _TransientError(tail)

    def _git(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> process.CompletedProcess:
        where = (f"--git-dir={self.path}",) if self.path.exists() else ()
        return process.run(
            ["git", *where, *arguments],
            env={**_environment(self.path), **(env or {})},
            cwd=self.access.store.root,
            timeout=timeout,
        )

    def _unreachable(self, reason: str) -> InputError:
        return InputError(
            f"cannot read {self.shown}: {reason}",
            remedy="check the URL and your access to it (git ls-remote), or name a copy under `mirrors:`",
        )


def _environment(repository: Path) -> dict[str, str]:
    """git without questions, in English, and not inside whatever repository our caller (a git hook, say) is in."""
    ssh = os.environ.get("GIT_SSH_COMMAND") or os.environ.get("GIT_SSH")
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or ""
    return {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "GIT_DIR": str(repository),
        "GIT_WORK_TREE": str(repository),
        "GIT_INDEX_FILE": str(repository / "index"),
        "GIT_OBJECT_DIRECTORY": str(repository / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
        "GIT_NAMESPACE": "",
        "GIT_OPTIONAL_LOCKS": "0",
        **({} if ssh else {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}),
        # git's TLS library may not look at SSL_CERT_FILE.
        **({"GIT_SSL_CAINFO": bundle} if bundle and "GIT_SSL_CAINFO" not in os.environ else {}),
    }
