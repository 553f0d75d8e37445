"""The `vswitch` command: one module per command, each with `add_parser` and `run`.

Exit codes are those of `vswitch.errors.ExitCode`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from vswitch.cli.common import AnswerLost, answer, exit_code_of, version
from vswitch.errors import ExitCode

__all__ = ["main"]

_COMMANDS = (
    "serve",
    "invite",
    "members",
    "revoke",
    "join",
    "status",
    "port",
    "switch",
    "capture",
    "counters",
    "events",
    "impair",
    "trace",
    "mac",
    "bench",
    "demo",
    "genkey",
)
_DESCRIPTION = """\
A virtual Ethernet switch whose ports reach across the Internet.

On one host run the switch, and invite a member:
  vswitch serve --public switch.example.org
  vswitch invite pc1
On the other plug it in:
  vswitch join STRING --name pc1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but that leaves this function."""
    try:
        try:
            code = _run(argv)
        except SystemExit as stop:  # argparse, after help or a wrong flag
            code = stop.code if isinstance(stop.code, int) else ExitCode.FAILED
        # Here and not at exit, where a full disk would go unnoticed.
        answer()
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.FAILED
    except AnswerLost as error:
        _drop_stdout()
        return exit_code_of(error)
    except BaseException as error:
        return exit_code_of(error)
    return code


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="vswitch",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"vswitch {version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {name: module for name in _COMMANDS if (module := _load(name)) is not None}
    for module in modules.values():
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    code: int = modules[args.command].run(args)
    return code


def _load(name: str) -> ModuleType | None:
    """The module of a command; None where it was left out of the installation."""
    path = f"{__name__}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return None


def _drop_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes stdout at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
