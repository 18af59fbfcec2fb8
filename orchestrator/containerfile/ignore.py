""".dockerignore / .containerignore, as Docker reads them: anchored at the root, last match wins, `!` re-includes.

Not gitignore's rules (pattern `a` matches only the root's `a`), which is why pathspec doesn't serve.
Source: Docker's documentation of the build context, "dockerignore files".
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.containerfile.wildcards import Matcher, matcher
from orchestrator.errors import UsageError

IGNORE_FILES = (".containerignore", ".dockerignore")
"""Names looked for in a context's root; the first that exists counts (Podman's order)."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One line: `matches` a whole path; `parts` are the pattern's components; `negated` for `!`."""

    matches: Matcher
    parts: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class IgnoreRules:
    """The patterns of one file, in order. Paths are relative to the context, with '/', without a leading one."""

    patterns: tuple[Pattern, ...] = ()

    def ignored(self, path: str, cache: str = "") -> bool:
        """Whether `path` is left out: the last pattern that matches it, or a directory above it, decides.

        In a directory `cache`, everything is left out that no `!` names: itself, or something on the way from there.
        """
        result = bool(cache)
        for pattern in self.patterns:
            if pattern.negated == result and pattern.matches(path, len(cache)):
                result = not pattern.negated
        return result

    def may_keep_below(self, directory: str, cache: str = "") -> bool:
        """Whether some `!` pattern could re-include a path below an ignored `directory` (in `cache`, as there)."""
        parts, least = directory.split("/"), len(cache.split("/")) if cache else 0
        return any(
            pattern.negated
            and (len(pattern.parts) >= least or "**" in pattern.parts)
            and _may_lie_below(pattern.parts, parts)
            for pattern in self.patterns
        )

    def and_keep(self, patterns: Sequence[str]) -> IgnoreRules:
        """These rules, and a `!` for each of `patterns`."""
        kept = [Pattern(matches=matcher(name), parts=tuple(name.split("/")), negated=True) for name in patterns]
        return IgnoreRules((*self.patterns, *kept)) if kept else self


def load_rules(context: Path, names: Sequence[str] = IGNORE_FILES) -> tuple[IgnoreRules, Path | None]:
    """The rules in force for a context directory, and the file they are from (None: no such file, all kept).

    `names` are looked for in this order.
    """
    for name in names:
        path = context / name
        try:
            text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", remedy="make it readable") from error
        return parse_rules(text, str(path)), path
    return IgnoreRules(), None


def left_out_by(context: Path) -> Callable[[str], str]:
    """Says of a path relative to `context` which file leaves it out, by name; "" when it is kept.

    A directory is left out when nothing below it can be kept. UsageError as of `load_rules`.
    """
    # A context that isn't there is said elsewhere. isdir: Path.is_dir raises for a name that is too long.
    rules, file = load_rules(context) if os.path.isdir(context) else (IgnoreRules(), None)  # noqa: PTH112

    def answer(path: str) -> str:
        if file is None or not rules.ignored(path):
            return ""
        partly = (context / path).is_dir() and rules.may_keep_below(path)
        return "" if partly else file.name

    return answer


def parse_rules(text: str, file: str = ".dockerignore") -> IgnoreRules:
    """Parse an ignore file's text. UsageError naming file and line for a pattern that means nothing."""
    patterns = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        # As Docker: "." and ".." are resolved first, and a leading "/" means the root that it means anyway.
        cleaned = posixpath.normpath(pattern).lstrip("/") if pattern else ""
        if not cleaned:
            if negated and not pattern:
                raise _bad(file, number, line)
            continue
        if cleaned == ".":
            continue
        try:
            matches = matcher(cleaned)
        except re.error as error:
            raise _bad(file, number, line) from error
        patterns.append(Pattern(matches=matches, parts=tuple(cleaned.split("/")), negated=negated))
    return IgnoreRules(tuple(patterns))


def _bad(file: str, number: int, line: str) -> UsageError:
    return UsageError(
        f"{file}:{number}: {line.strip()!r} is not a pattern", remedy="close its brackets, or escape with '\\'"
    )


def _may_lie_below(pattern: tuple[str, ...], directory: list[str]) -> bool:
    """Whether a path matching `pattern`, or below one that does, can lie under `directory`."""
    for index, name in enumerate(directory):
        if index >= len(pattern) or "**" in pattern[index]:
            return True  # the pattern names a directory above, or any depth
        if not matcher(pattern[index])(name, len(name)):
            return False
    return True
