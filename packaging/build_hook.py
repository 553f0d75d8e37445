"""What is made when the package is built and stands nowhere else, so it cannot be out of date.

A manual page and completions, from the parsers and what else the program and its documents say; and
the README without what leads to files beside it, which are not where an index shows it.
"""

import argparse
import inspect
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

SEE_ALSO = "bridge(8), ip(8), network_namespaces(7), systemctl(1), tshark(1)"


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
    import shtab  # not at the top: an editable installation and a source distribution need none

    from vswitch.cli.completion import FILES

    for action in actions(parser):
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and re.fullmatch(r"\w+(\|\w+)+", str(action.metavar)):
            action.choices = str(action.metavar).split("|")  # which the program checks later
    return {
        **{name: shtab.complete(parser, shell) for shell, name in FILES.items()},
        "share/man/man1/vswitch.1": manual(parser, version),
    }


def manual(parser: argparse.ArgumentParser, version: str) -> str:
    """The manual page: the commands and their options, and what holds for all of them."""
    from argparse_manpage.manpage import Manpage

    epilog, parser.epilog = parser.epilog or "", None  # which would be a section COMMENTS, filled
    page = Manpage(
        parser,
        {
            "project_name": "vswitch",
            "version": version,
            "manual_title": "User commands",
            "description": "a virtual Ethernet switch whose ports reach across the Internet",
        },
    )
    commands = (each for action in actions(parser) for each in parsers(action).values())
    examples = (each.epilog.partition("\n")[2] for each in commands)
    first = textwrap.dedent(epilog.partition("examples:\n")[2])
    sections = {
        "exit status": listed(exit_codes()),
        "environment": listed(environment()),
        "files": listed(files()),
        "examples": f".nf\n{roff(first)}\n{roff(textwrap.dedent(chr(10).join(examples)))}\n.fi",
        "see also": roff(SEE_ALSO),
    }
    for title, text in sections.items():
        page.add_section(title, "=", text)
    return str(page)


def listed(terms: Iterable[tuple[str, str]]) -> str:
    """Terms, and what each is."""
    return "\n".join(f".TP\n.B {roff(term)}\n{roff(text)}" for term, text in terms)


def roff(text: str) -> str:
    """Plain text as a manual page has it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.M)


def exit_codes() -> Iterator[tuple[str, str]]:
    """Each code, and what the source says beside it."""
    from vswitch.errors import ExitCode

    source = inspect.getsource(ExitCode)
    for code, text in re.findall(r"^    [A-Z_]+ = (\d+)(?:  # (.+))?$", source, re.M):
        yield code, text or "it went well"


def files() -> Iterator[tuple[str, str]]:
    """Each file that the program has, below the state directory of root."""
    from vswitch.cli.service import CONFIG
    from vswitch.state import StateDir, default_state_dir

    state = StateDir(default_state_dir({}, 0))
    yield str(state.path), "State directory of root; of others $XDG_STATE_HOME/vswitch or --state."
    for name, member in vars(StateDir).items():
        path = getattr(state, name)
        if inspect.isfunction(member) and inspect.signature(member).return_annotation == "Path":
            path = path(*(each.upper() for each in inspect.signature(path).parameters))
        if name != "path" and isinstance(path, Path):
            yield str(path), str(inspect.getdoc(member)).replace("`name`", "NAME")
    yield f"{state.network('NAME').path}/", "Registry and control socket of another network."
    yield (
        "/run/vswitch/, $XDG_RUNTIME_DIR/vswitch/",
        "Sockets where the state directory takes none.",
    )
    yield str(CONFIG), "Configuration file of the service (vswitch service); others: --config."


def environment() -> Iterator[tuple[str, str]]:
    """Each variable, as the documents have it."""
    text = (Path(__file__).parents[1] / "docs/operations.md").read_text()
    table = text.partition("\n## Environment\n")[2].partition("\n## ")[0]
    for name, effect in re.findall(r"^\| (`.+?) \| (.+) \|$", table, re.M):
        yield name.replace("`", ""), effect.replace("`", "")


def parsers(action: argparse.Action) -> dict[str, Any]:
    """Of the commands, where the action is these."""
    return action.choices if isinstance(action, argparse._SubParsersAction) else {}


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All that can stand on the command line, of subcommands too."""
    for action in parser._actions:
        yield action
        for each in parsers(action).values():
            yield from actions(each)
