"""The command line: `python -m orchestrator …`. Options in, answers on stdout, exit codes out; no logic."""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys
from importlib import import_module
from typing import Final

import click

from orchestrator import __version__
from orchestrator.cli.console import run_to_exit_code
from orchestrator.cli.runner_log import shown

COMMANDS: Final = {
    "init": "build_commands",
    "check": "build_commands",
    "render": "build_commands",
    "build": "build_commands",
    "pack": "pack_command",
    "inspect": "image_commands",
    "verify": "image_commands",
    "hash": "image_commands",
    "deploy-command": "image_commands",
    "rehearse": "rehearse_commands",
    "run-workflow": "workflow_commands",
    "boot": "boot_commands",
    "lock": "lock_commands",
    "cache": "lock_commands",
    "bundle": "lock_commands",
    "fleet": "fleet_commands",
    "report": "report_command",
    "schema": "schema_command",
    "doctor": "host_commands",
    "clean": "host_commands",
}
"""Every command, in the order of the work and not of the alphabet, and the module of this package that holds it."""


class Commands(click.Group):
    """The group of `COMMANDS`. Imports the module of the command that is asked for, and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of this name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        commands: tuple[click.Command, ...] = import_module(f"orchestrator.cli.{COMMANDS[cmd_name]}").COMMANDS
        return next(command for command in commands if command.name == cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="orchestrator")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors; may be given anywhere on the command line.")
def cli(debug: bool) -> None:
    """Turn a program into a verified, bootable Nanos unikernel image for Gevulot.

    \b
    Exit codes: 0 success; 2 usage error, or an error in project.yaml or the manifest; 3 engine missing or
    unusable; 4 an outside input could not be fetched or does not match its pin; 5 a build step failed;
    6 the image failed verification or was not reproduced; 7 a program ran and failed; 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    words = sys.argv[1:] if arguments is None else arguments
    # `--debug` counts anywhere, as the user adds it to a line that failed; after `--` it is an argument.
    options = words[: words.index("--")] if "--" in words else words
    wanted = [argument for argument in options if argument != "--debug"] + words[len(options) :]
    _tolerate_any_name()
    # A tree of many files is many objects that live to the end. To look for cycles among them as often as Python does
    # by itself takes a sixth of the time of packing 20,000 files (measured).
    gc.set_threshold(100_000, 20, 100)
    # Threads hash, copy and read beside the one that computes. For their next piece they would wait for up to 5 ms each
    # time, which is what it takes to hash 10 MiB.
    sys.setswitchinterval(0.001)
    # Also for what we start: git would make a cache that everyone may write to.
    os.umask(os.umask(0o077) | 0o002)
    code = run_to_exit_code(lambda: _invoke(wanted), debug="--debug" in options)
    if arguments is None:
        # The process ends: to look for cycles among all that it has imported takes it 0.2 s (measured).
        gc.freeze()
    sys.exit(code)


def _tolerate_any_name() -> None:
    """File names that aren't text in the terminal's encoding must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _invoke(arguments: list[str]) -> None:
    # click's own error display stays, its exits go through ours.
    stdout, stderr = sys.stdout, sys.stderr
    try:
        cli.main(args=arguments, prog_name="orchestrator", standalone_mode=False)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except SystemExit:
        # When the reader of a pipe has gone, click swaps the streams and ends with 1; for us that is no failure.
        if sys.stdout is stdout:
            raise
        sys.stdout, sys.stderr = stdout, stderr
        raise BrokenPipeError from None
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        click.echo(shown(text.getvalue().rstrip("\n")), err=True)
        sys.exit(2)
