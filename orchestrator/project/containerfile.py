"""The user's own Containerfile, as far as we look into it: which images its stages begin with, and where they stand.

The engine reads the rest. Grammar: Docker's Dockerfile reference ("Format", "FROM", "ARG", "Here-documents"). Pure.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.text import parse_json

_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*$")
_SYNTAX = re.compile(r"^(\s*#\s*)syntax(\s*=)", re.IGNORECASE | re.MULTILINE)
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))")
_OTHER_STAGE = re.compile(r"(?:--from=|[,=]from=)([^\s,\"']+)")
_URL = re.compile(r"(?:^|\s)(https?://\S+|git@\S+)")
_ARGUMENT = re.compile(r"(\w+)(?:=(\"[^\"]*\"|'[^']*'|\S*))?")
_GAP = r"(?:\s|[\\`]\n(?:\s*#[^\n]*\n)*)+"
_FROM = re.compile(rf"FROM{_GAP}(?:--\S+{_GAP})*(?P<image>[^\s\\`]+)", re.IGNORECASE)
_MOUNT = re.compile(r"--mount=\S+\s+")
_AS = re.compile(r"\sAS\s+(\S+)\s*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a COPY or ADD brings into its stage. `target` is absolute; with a `/` at its end it is a directory.

    `sources` are of the context, or of another stage or image (`from_stage`).
    """

    sources: tuple[str, ...]
    target: str
    from_stage: bool


@dataclass(frozen=True, kw_only=True)
class ContainerStage:
    """One FROM, which ends before `after`. `image` is its reference with ARGs filled in, at `start`:`end` of the text.

    `uses` are the stages and images, by name or number, that its instructions copy from; `urls` what ADD fetches.
    `directory` is where its last WORKDIR leads, as far as this file says; `copied` is what its own COPY and ADD bring;
    `entrypoint` and `command` are the words of ENTRYPOINT and CMD, none where a shell reads them.
    """

    name: str
    image: str
    line: int
    start: int
    end: int
    after: int
    uses: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    directory: str = "/"
    copied: tuple[Copied, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Containerfile:
    """A file whose stages are known. `needed` are those that its target is built from, itself among them."""

    text: str
    needed: tuple[ContainerStage, ...]
    images: tuple[str, ...]
    """What its FROM lines take from outside and can be pinned, each once, in their order."""
    unpinned: tuple[str, ...]
    """What else it takes from outside, as far as its instructions say so."""

    def pinned(self, references: Mapping[str, str], label: str = "") -> str:
        """The text with the images of its FROM lines named as `references` says, and without a `# syntax=`.

        That line would have the engine fetch another reader of the file, which nothing pins. `label` is an instruction
        for each stage.
        """
        text = self.text
        for stage in sorted(self.needed, key=lambda stage: -stage.start):
            image = references.get(stage.image, text[stage.start : stage.end])
            between = text[stage.end : stage.after] + (f"\n{label}" if label else "")
            text = text[: stage.start] + image + between + text[stage.after :]
        head, break_, rest = text.partition("\n")
        return _SYNTAX.sub(r"\1(left out) syntax\2", head) + break_ + rest

    @property
    def has_syntax(self) -> bool:
        """Whether its first line names another reader of the file."""
        return _SYNTAX.match(self.text.partition("\n")[0]) is not None


def stages_of(text: str, arguments: Mapping[str, str]) -> list[ContainerStage]:
    """All stages of a Containerfile, in order. `arguments` are the values of `build.args`."""
    values: dict[str, str] = {}
    stages: list[ContainerStage] = []
    for instruction in _instructions(text):
        word, _, rest = instruction.text.partition(" ")
        if word.upper() == "ARG" and not stages:
            for name, default in _ARGUMENT.findall(rest):
                values[name] = arguments.get(name, _filled(default.strip("\"'"), values))
        elif word.upper() == "FROM":
            stages += [_begin(stage, stages) for stage in _stage(text, instruction, values, str(len(stages)))]
        elif stages and word.upper() == "WORKDIR":
            directory = posixpath.join(stages[-1].directory, rest.strip().strip("\"'"))
            stages[-1] = replace(stages[-1], directory=posixpath.normpath(directory))
        elif stages and word.upper() == "ENTRYPOINT":
            stages[-1] = replace(stages[-1], entrypoint=_words(rest), command=())
        elif stages and word.upper() == "CMD":
            stages[-1] = replace(stages[-1], command=_words(rest))
        elif stages and word.upper() in ("COPY", "ADD", "RUN"):
            stage, uses = stages[-1], tuple(_OTHER_STAGE.findall(rest))
            urls = tuple(_URL.findall(rest)) if word.upper() == "ADD" else ()
            copied = stage.copied if word.upper() == "RUN" else (*stage.copied, *_copied(rest, stage.directory))
            stages[-1] = replace(stage, uses=stage.uses + uses, urls=stage.urls + urls, copied=copied)
    return stages


def without_mounts(instruction: str) -> str:
    """An instruction on one line and without its mounts, as engines name a step with more or less of them."""
    return " ".join(_MOUNT.sub("", instruction.replace("\\\n", " ")).split())


def text_before(text: str, stage: str, instruction: str) -> str | None:
    """What stands in a Containerfile before a step; None where it isn't found.

    `stage` and `instruction` are as an engine names them: `stage-2` is the third where it has no name, "" is any.
    """
    numbered, names = -1, set[str]()
    for step in _instructions(text):
        word, _, rest = step.text.partition(" ")
        if word.upper() == "FROM":
            numbered += 1
            name = _AS.search(rest.rstrip())
            names = {str(numbered), f"stage-{numbered}", *([name[1].lower()] if name else ())}
        elif stage.lower() in ("", *names) and without_mounts(step.text) == without_mounts(instruction):
            return text[: step.start]
    return None


def _begin(stage: ContainerStage, before: list[ContainerStage]) -> ContainerStage:
    """A stage that begins with an earlier one of the file begins with what that says of its start."""
    for other in before:
        if stage.image.lower() == other.name:
            return replace(stage, directory=other.directory, entrypoint=other.entrypoint, command=other.command)
    return stage


def _words(rest: str) -> tuple[str, ...]:
    """The words of an instruction in its JSON form."""
    try:
        words = parse_json(rest)
    except ValueError:
        return ()
    return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else ()


def _copied(rest: str, directory: str) -> Iterator[Copied]:
    """What a COPY or ADD says; nothing where it can't be read, or has files in a here-document."""
    options = re.match(r"(?:--\S+\s+)*", rest)
    flags, names = rest[: options.end()] if options else "", rest[options.end() if options else 0 :].strip()
    try:
        words = _words(names) if names.startswith("[") else tuple(shlex.split(names))
    except ValueError:
        return
    if len(words) < 2 or any(word.startswith("<<") for word in words):
        return
    target = posixpath.normpath(posixpath.join(directory, words[-1]))
    is_directory = len(words) > 2 or words[-1].endswith(("/", "/.")) or words[-1] == "." or target == directory
    yield Copied(
        sources=words[:-1],
        target=f"{target.rstrip('/')}/" if is_directory else target,
        from_stage="--from=" in flags,
    )


def containerfile_of(text: str, stages: list[ContainerStage], target: ContainerStage) -> Containerfile:
    """What a file's stage `target` needs of it."""
    needed = _needed(target, stages)
    outside = dict.fromkeys(stage.image for stage in needed if _is_outside(stage, stages))
    names = {str(number) for number in range(len(stages))} | {stage.name for stage in stages}
    copied = [name for stage in needed for name in stage.uses if name.lower() not in names]
    urls = [url for stage in needed for url in stage.urls]
    return Containerfile(
        text=text,
        needed=needed,
        images=tuple(image for image in outside if "$" not in image),
        unpinned=tuple(dict.fromkeys([*(image for image in outside if "$" in image), *copied, *urls])),
    )


def _is_outside(stage: ContainerStage, stages: list[ContainerStage]) -> bool:
    before = {other.name for other in stages[: stages.index(stage)]}
    return stage.image != "scratch" and stage.image.lower() not in before


def _needed(target: ContainerStage, stages: list[ContainerStage]) -> tuple[ContainerStage, ...]:
    by_name = {name: stage for number, stage in enumerate(stages) for name in (str(number), stage.name)}
    wanted = [target]
    for stage in wanted:  # grows while it is walked
        for name in (stage.image, *stage.uses):
            other = by_name.get(name.lower())
            if other is not None and other not in wanted:
                wanted.append(other)
    return tuple(stage for stage in stages if stage in wanted)


@dataclass(kw_only=True)
class _Instruction:
    """A whole instruction: its text without line breaks, where it begins and ends, its 1-based line."""

    text: str
    start: int
    line: int
    end: int = 0


def _instructions(text: str) -> Iterator[_Instruction]:
    escape, heredoc, current = "\\", "", None
    offset, at_top = 0, True
    for number, line in enumerate(text.split("\n"), start=1):
        start, stripped = offset + len(line) - len(line.lstrip()), line.strip()
        offset += len(line) + 1
        if heredoc:
            heredoc = "" if stripped == heredoc else heredoc
            continue
        directive = _DIRECTIVE.match(stripped) if at_top else None
        if directive is not None and directive[1].lower() == "escape":
            escape = directive[2]
        at_top = directive is not None
        if not stripped or stripped.startswith("#"):  # comments may stand in the middle of an instruction
            continue
        current = current or _Instruction(text="", start=start, line=number)
        goes_on = stripped.endswith(escape)
        current.end = offset - 1
        current.text += (stripped.removesuffix(escape) if goes_on else stripped) + " "
        if goes_on:
            continue
        words = _HEREDOC.search(current.text) if re.match(r"(RUN|COPY|ADD)\s", current.text, re.IGNORECASE) else None
        heredoc = words[2] if words is not None else ""
        yield current
        current = None


def _stage(text: str, instruction: _Instruction, values: Mapping[str, str], number: str) -> Iterator[ContainerStage]:
    match = _FROM.match(text, instruction.start)
    if match is None:  # the engine says what is wrong with it
        return
    name = _AS.search(instruction.text.rstrip())
    yield ContainerStage(
        name=name[1].lower() if name is not None else number,
        image=_filled(match["image"], values),
        line=instruction.line,
        start=match.start("image"),
        end=match.end("image"),
        after=instruction.end,
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with its variables filled in; what isn't known stays as it is written."""

    def value(match: re.Match[str]) -> str:
        known = values.get(match[1] or match[4], "")
        if match[2] == "-":
            return known or match[3]
        if match[2] == "+":
            return match[3] if known else ""
        return known or match[0]

    return _VARIABLE.sub(value, text)
