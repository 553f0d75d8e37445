"""The parser of a command, and its help: on one screen what is needed at first, or all options.

An option is `rare` where it is declared (config/options.py, or the command's own flags). `--help`
leaves these out; `--help-all`, the manual page, the completions and the reference have them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MANY = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} ..."}  # operands, by `nargs`


class Parser(argparse.ArgumentParser):
    """Of one command; its help ends with `examples`, which can be run."""

    def __init__(self, *, examples: tuple[str, ...] = (), **more: Any) -> None:
        self._rare: list[argparse.Action] = []
        super().__init__(add_help=False, allow_abbrev=False, **more)
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.usage = f"{self.prog} [OPTION ...]"
        if examples:
            title = "example:" if len(examples) == 1 else "examples:"
            self.epilog = "\n  ".join((title, *examples))
        self.add_argument(
            "-h", "--help", action="help", rare=True, help="show what is needed at first, and end"
        )

    def add_argument(self, *names: str, rare: bool = False, **how: Any) -> argparse.Action:
        """As argparse has it; `rare`: left out of `--help`."""
        action = super().add_argument(*names, **how)
        if rare:
            self._rare.append(action)
        if not action.option_strings:
            self.usage = f"{self.usage} {_operand(action)}"
        return action

    def format_help(self) -> str:
        """What is needed at first, and how to see the rest."""
        with _hidden(self._rare):
            text = super().format_help()
        if all(action.dest in ("help", "help_all") for action in self._rare):
            return text
        return f"{text}\nall options: vswitch help {self.prog.partition(' ')[2]} all\n"

    def format_all(self) -> str:
        """The same with all options."""
        return super().format_help()


def _operand(action: argparse.Action) -> str:
    name = action.metavar or f"{{{','.join(action.choices or ())}}}"
    return _MANY[action.nargs].format(name)  # type: ignore[index]


@contextmanager
def _hidden(actions: list[argparse.Action]) -> Iterator[None]:
    said = [action.help for action in actions]
    for action in actions:
        action.help = argparse.SUPPRESS
    try:
        yield
    finally:
        for action, text in zip(actions, said, strict=True):
            action.help = text
