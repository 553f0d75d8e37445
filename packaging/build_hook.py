"""What is made when the package is built and stands nowhere else, so it cannot be out of date.

A manual page and completions for bash and zsh, from the parsers; and the README without what leads
to files beside it, which are not where an index shows it.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """Sets the long description of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the README, and leave its relative links out."""
        text = Path(self.root, "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": without_links(text)}


def without_links(text: str) -> str:
    """Markdown whose images and links to files are gone, their words kept."""
    text = re.sub(r"!\[[^]]*\]\((?!https:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^]]*)\]\((?!https:|#)[^)]*\)", r"\1", text)


class Generated(BuildHookInterface[Any]):
    """The hook; hatchling finds it by its base class."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files and say where the wheel has to put them."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        try:
            from vswitch.cli import command_line
        finally:
            sys.path.remove(self.root)
        self.folder = tempfile.TemporaryDirectory()
        for name, text in generated(command_line(), self.metadata.version).items():
            path = Path(self.folder.name) / Path(name).name
            path.write_text(text)
            build_data["shared_data"][str(path)] = name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made."""
        if version != "editable":
            self.folder.cleanup()


def generated(parser: argparse.ArgumentParser, version: str) -> dict[str, str]:
    """The text of each file, by its place below the prefix of an installation."""
    import shtab  # not at the top: an editable installation and a source distribution need neither
    from argparse_manpage.manpage import Manpage

    from vswitch.cli.completion import FILES

    for action in actions(parser):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and re.fullmatch(r"\w+(\|\w+)+", str(action.metavar)):
            action.choices = str(action.metavar).split("|")  # which the program checks later
    about = {
        "project_name": "vswitch",
        "version": version,
        "manual_title": "User commands",
        "description": "a virtual Ethernet switch whose ports reach across the Internet",
    }
    return {
        **{name: shtab.complete(parser, shell) for shell, name in FILES.items()},
        "share/man/man1/vswitch.1": str(Manpage(parser, about)),
    }


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All that can stand on the command line, of subcommands too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from actions(each)
