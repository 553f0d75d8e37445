"""The `vswitch` command: one module per command, each with `add_parser` and `run`.

Only the module of the command that was asked for is imported, and each imports what it uses.

Exit codes are those of `vswitch.errors.ExitCode`.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Container, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from vswitch.cli.common import GROUPS, SUMMARIES, AnswerLost, answer, drop_stdout, exit_code_of
from vswitch.cli.help import Parser
from vswitch.errors import ConfigError, ExitCode

__all__ = ["command_line", "main"]

_ABOUT = "A virtual Ethernet switch whose ports reach across the Internet."
_EXAMPLES = """\
more of a command: vswitch help COMMAND; a line of each: vswitch help commands

examples:
  vswitch serve --public switch.example.org   # on a host that others can reach
  vswitch invite pc1                          # there: prints the string below
  vswitch join STRING --name pc1              # on the other: plugs it in
  vswitch demo                                # or see it work on this host
"""


class _CommandLine(argparse.ArgumentParser):
    """Its help fits a screen: commands by what one wants."""

    def format_help(self) -> str:
        """As argparse has it, with groups in place of a line for each command."""
        room = max(map(len, GROUPS)) + 4
        groups = [
            textwrap.fill(
                names, 79, initial_indent=f"  {name}".ljust(room), subsequent_indent=" " * room
            )
            for name, names in GROUPS.items()
        ]
        return "\n".join([self.format_usage(), _ABOUT, "", *groups, "", _EXAMPLES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing but that leaves this function."""
    _open_standard_streams()
    try:
        try:
            code = _run(argv)
        except SystemExit as stop:  # argparse, after help or a wrong flag
            code = stop.code if isinstance(stop.code, int) else ExitCode.FAILED
        # Here and not at exit, where a full disk would go unnoticed.
        answer()
    except BrokenPipeError:
        drop_stdout()
        return ExitCode.FAILED
    except AnswerLost as error:
        drop_stdout()
        return exit_code_of(error)
    except BaseException as error:
        return exit_code_of(error)
    return code


def _open_standard_streams() -> None:
    """Where one of the three was closed by whoever started us, no socket of ours takes its place,
    and only what has an answer to write fails.
    """
    for fd, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_RDONLY),  # so that writing there is an error, as it was
        (2, "stderr", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, flags)
            if null != fd:
                os.dup2(null, fd, inheritable=False)
                os.close(null)
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from vswitch.version import SOFTWARE

        answer(SOFTWARE)
        parser.exit()


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        assert isinstance(parser, Parser)
        answer(parser.format_all().rstrip("\n"))
        parser.exit()


def command_line(commands: Container[str] = SUMMARIES) -> argparse.ArgumentParser:
    """The parser of the whole command line, with the flags of these commands.

    Of the others only the summary is needed, and for that nothing is imported.
    """
    parser = _CommandLine(
        prog="vswitch",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="show the version, and end"
    )
    subparsers = parser.add_subparsers(
        dest="command",
        title="commands",
        metavar="COMMAND",
        required=True,
        parser_class=Parser,
    )
    for name, summary in SUMMARIES.items():
        if find_spec(f"{__name__}.{name}") is None:
            continue  # left out of the installation
        if name in commands:
            import_module(f"{__name__}.{name}").add_parser(subparsers)
            subparsers.choices[name].add_argument(
                "--help-all", action=_HelpAll, nargs=0, rare=True, help="show all options, and end"
            )
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _check_first(words: Sequence[str], asked: str) -> None:
    """`ConfigError` for flags in front of the command, of which there are none, and for a command
    that there is not.
    """
    first = words[0]
    if first.startswith("-") and first not in ("-h", "--help"):
        flag = first.partition("=")[0]
        raise ConfigError(f"flags come behind the command: vswitch COMMAND {flag} ...")
    if asked and asked not in SUMMARIES:
        from difflib import get_close_matches

        near = get_close_matches(asked, SUMMARIES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "see `vswitch help commands`"
        raise ConfigError(f"unknown command {asked}: {hint}")


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        command_line(()).print_help(sys.stderr)
        return ExitCode.USAGE
    if words == ["help", "commands"]:
        answer("\n".join(f"{name:12} {summary}" for name, summary in SUMMARIES.items()))
        return ExitCode.OK
    if words[:2] == ["completion", "names"] and words[2:]:  # a shell asks, and somebody waits
        from vswitch.cli.completion import tell_names

        return tell_names(words[2:])
    if words[0] == "help":
        words = [*words[1:2], "--help-all" if words[2:][-1:] == ["all"] else "--help"]
    elif words[0] == "version":
        words = ["--version"]
    # The flags in front of a command have no values, so the first word without a dash is it.
    asked = next((word for word in words if not word.startswith("-")), "")
    if words[0] in ("-V", "--version"):
        asked = ""  # nothing else counts
    else:
        _check_first(words, asked)
    program: list[str] = []
    if asked == "exec" and "--" in words:  # what is behind is the program's, flags and all
        at = words.index("--")
        words, program = words[:at], words[at + 1 :]
    args, more = command_line({asked}).parse_known_args(words, argparse.Namespace(program=program))
    if more:  # argparse would show how to write `vswitch`, and not this command
        raise ConfigError(
            f"{args.command} takes no {' '.join(more)}: see `vswitch help {args.command} all`"
        )
    code: int = import_module(f"{__name__}.{args.command}").run(args)
    return code
