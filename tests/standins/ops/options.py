"""The command line of `ops build`: flags anywhere, long and short, as ops's flag library takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .console import UsageMistakeError

_LISTS = {"args", "envs", "mounts", "consoles"}
_SWITCHES = {
    "disable-args-copy", "nightly", "tfsv4", "help", "json", "show-debug", "show-errors", "show-warnings",
}  # fmt: skip
_TEXTS = {
    "arch": "", "config": "", "gateway": "", "imagename": "", "ip-address": "", "ipv6-address": "",
    "nanos-version": "", "netconsole-ip": "10.0.2.2", "netconsole-port": "4444", "netmask": "255.255.255.0",
    "projectid": "", "target-cloud": "onprem", "target-root": "", "type": "", "zone": "",
}  # fmt: skip
_SHORT = {
    "a": "args", "c": "config", "e": "envs", "i": "imagename", "n": "nightly", "g": "projectid", "j": "json",
    "t": "target-cloud", "r": "target-root", "4": "tfsv4", "z": "zone", "h": "help",
}  # fmt: skip

USAGE = "\n".join(
    [
        "Usage:",
        "  ops build [ELF file] [flags]",
        "",
        "Flags:",
        *sorted(f"      --{name}" for name in {*_LISTS, *_SWITCHES, *_TEXTS}),
    ]
)


@dataclass(kw_only=True)
class Options:
    """What was given on the command line."""

    words: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=lambda: dict(_TEXTS))
    lists: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _LISTS})
    switches: set[str] = field(default_factory=set)


def parse(arguments: Sequence[str]) -> Options:
    """Sort `arguments` (without the command's name) into words and flags. UsageMistakeError as ops words it."""
    options = Options()
    todo = list(reversed(arguments))
    while todo:
        argument = todo.pop()
        if argument == "--":
            options.words += reversed(todo)
            break
        if argument.startswith("--"):
            _long(options, argument[2:], todo)
        elif argument.startswith("-") and len(argument) > 1:
            _short(options, argument, todo)
        else:
            options.words.append(argument)
    return options


def _long(options: Options, text: str, todo: list[str]) -> None:
    name, equals, value = text.partition("=")
    if name in _SWITCHES:
        if value != "false":
            options.switches.add(name)
    elif name in _LISTS or name in _TEXTS:
        if not equals and not todo:
            raise UsageMistakeError(f"flag needs an argument: --{name}")
        _set(options, name, value if equals else todo.pop())
    else:
        raise UsageMistakeError(f"unknown flag: --{name}")


def _short(options: Options, argument: str, todo: list[str]) -> None:
    for at, letter in enumerate(argument[1:], start=1):
        name = _SHORT.get(letter)
        if name is None:
            raise UsageMistakeError(f"unknown shorthand flag: '{letter}' in {argument}")
        if name in _SWITCHES:
            options.switches.add(name)
            continue
        rest = argument[at + 1 :].removeprefix("=")
        if not rest and not todo:
            raise UsageMistakeError(f"flag needs an argument: '{letter}' in {argument}")
        _set(options, name, rest or todo.pop())
        return


def _set(options: Options, name: str, value: str) -> None:
    if name in _LISTS:
        options.lists[name].append(value)
    else:
        options.texts[name] = value
