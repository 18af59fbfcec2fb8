from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.containerfile.ignore import load_rules, parse_rules
from orchestrator.errors import UsageError


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        # The examples of Docker's documentation of .dockerignore files.
        ("# comment\n*/temp*\n*/*/temp*\ntemp?",
         ["somedir/temporary.txt", "somedir/temp", "somedir/subdir/temporary.txt", "tempa", "tempb"],
         ["temporary.txt", "temp", "a/b/c/temp", "# comment", "tempab"]),
        ("**/*.go", ["a.go", "a/b.go", "a/b/c.go"], ["a.gox", "go"]),
        ("*.md\n!README.md", ["a.md"], ["README.md", "docs/a.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["README-secret.md", "x.md"], ["README.md", "README-1.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["x.md"], ["README.md", "README-secret.md"]),
        ("/foo/bar", ["foo/bar", "foo/bar/baz"], ["bar", "x/foo/bar", "foo"]),
        ("foo/bar", ["foo/bar"], ["x/foo/bar"]),
        # Anchored, unlike gitignore.
        ("node_modules", ["node_modules", "node_modules/a"], ["web/node_modules"]),
        ("**/node_modules", ["node_modules", "web/node_modules/x", "a/b/node_modules"], ["node_modules2"]),
        ("target/", ["target", "target/release/x"], ["src/target"]),
        ("./a/../b", ["b"], ["a"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/bz", "z"]),
        ("**", ["a", "a/b"], []),
        ("*\n!src\n!Cargo.*", ["x", "docs/a"], ["src", "src/main.rs", "Cargo.toml"]),
        ("*\n!src/keep", ["src/x", "src"], ["src/keep", "src/keep/below"]),
        ("a\n!a/b\na/b/c", ["a", "a/x", "a/b/c"], ["a/b", "a/b/d"]),
        ("[a-c].txt\n[^a]?\n", ["a.txt", "c.txt", "bz"], ["d.txt", "az", "a/"]),
        (r"a\*b" + "\n" + r"\#x" + "\n" + r"\!y", ["a*b", "#x", "!y"], ["aab", "x", "y"]),
        ("  spaced  \n\n  \n", ["spaced"], ["  spaced  "]),
        ("# a\r\nb\r\n", ["b"], ["a", "# a"]),
        (".\n/\n", [], ["a", "a/b"]),
        ("a+b(c).$", ["a+b(c).$"], ["aab(c)x"]),
    ],
)  # fmt: skip
def test_patterns(text: str, ignored: list[str], kept: list[str]) -> None:
    rules = parse_rules(text)
    assert [path for path in ignored if not rules.ignored(path)] == []
    assert [path for path in kept if rules.ignored(path)] == []


@pytest.mark.parametrize("line", ["a[", "!", "x[b", "[]"])
def test_nonsense_names_file_and_line(line: str) -> None:
    with pytest.raises(UsageError, match=r"\.dockerignore:2: "):
        parse_rules(f"ok\n{line}\n")


@pytest.mark.parametrize(
    ("text", "directory", "expected"),
    [
        ("*\n!src/keep", "src", True),
        ("*\n!src/keep", "docs", False),
        ("*\n!**/keep", "a/b", True),
        ("*\n!*/keep", "a", True),
        ("*\n!*/keep", "a/b", False),
        ("*\n!*/keep", "a/keep", True),
        ("*", "a", False),
    ],
)
def test_walk_goes_on_only_where_something_can_come_back(text: str, directory: str, expected: bool) -> None:
    assert parse_rules(text).may_keep_below(directory) is expected


def test_containerignore_wins_and_a_byte_order_mark_is_no_pattern(tmp_path: Path) -> None:
    assert load_rules(tmp_path)[1] is None
    (tmp_path / ".dockerignore").write_text("\ufeffa\n", encoding="utf-8")
    rules, path = load_rules(tmp_path)
    assert path == tmp_path / ".dockerignore"
    assert rules.ignored("a")
    (tmp_path / ".containerignore").write_text("b\n")
    rules, path = load_rules(tmp_path)
    assert path == tmp_path / ".containerignore"
    assert rules.ignored("b")
    assert not rules.ignored("a")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a*" * 60, "a" * 200),
        ("*a" * 40 + "b", "a" * 255),
        ("**/a/" * 30 + "b", "a/" * 500 + "c"),
        ("**a" * 30 + "b", "a/" * 500 + "c"),
        ("*[ab]" * 40 + "!", "ab" * 120),
        ("?*" * 60 + "/x", "a" * 250 + "/y"),
    ],
)
def test_no_pattern_blows_up(pattern: str, path: str) -> None:
    began = time.monotonic()
    rules = parse_rules(f"{pattern}\n!{pattern}/kept\n")
    rules.ignored(path)
    rules.may_keep_below(path)
    assert time.monotonic() - began < 2


def as_regex(pattern: str) -> str:
    """The plain meaning, for short paths: what is slow of it doesn't matter there."""
    out = []
    for token in re.findall(r"\*\*/|\*\*$|\*\*|\*|\?|\[ab\]|.", pattern):
        out.append({"**/": "(?:.*/)?", "**": "(?:.*/)?", "*": "[^/]*", "?": "[^/]", "[ab]": "[ab]"}.get(token, token))
    if pattern.endswith("**"):
        out[-1] = ".*"
    return "".join(out)


@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "**/", "**", "?", "[ab]"]), min_size=1, max_size=7).map("".join),
    st.text("ab/", max_size=9),
)
def test_many_stars_mean_what_few_mean(middle: str, path: str) -> None:
    pattern = f"a{middle}"
    if "***" in pattern or "//" in pattern or pattern.endswith("/") or "//" in path or path.endswith("/"):
        return  # not as written once it is tidied
    whole, parts = f"a{path}", f"a{path}".split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    expected = any(re.fullmatch(as_regex(pattern), folder, re.DOTALL) for folder in above)
    assert parse_rules(pattern).ignored(whole) is expected
