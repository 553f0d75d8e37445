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

# How a shell asks for the names that are there now. Nothing of a name is evaluated by it.
ASK = {
    "bash": """
_vswitch_names() {
  local name
  while IFS= read -r name; do
    [[ $name == "$2"* ]] && printf '%s\\n' "$name"
  done < <(vswitch completion names "$1" "${COMP_WORDS[@]}" 2>/dev/null)
}""",
    "zsh": """
_vswitch_names() {
  local -a names
  names=("${(@f)$(vswitch completion names "${@[-1]}" "${words[@]}" 2>/dev/null)}")
  compadd "${@[1,-2]}" -- "${names[@]}"
}""",
}
# Behind KEY= comes no space.
BASH_KEYS = """

_vswitch() {
  _shtab_vswitch "$@"
  [[ ${COMPREPLY[0]-} == *= ]] || return 0
  [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]] && COMPREPLY=() || compopt -o nospace
}
complete -o bashdefault -F _vswitch vswitch
"""
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

    for command, action in actions(parser):
        if completer := completer_of(command, action):
            action.complete = completer  # type: ignore[attr-defined]
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and re.fullmatch(r"\w+(\|\w+)+", str(action.metavar)):
            action.choices = str(action.metavar).split("|")  # which the program checks later
    scripts = {shell: shtab.complete(parser, shell, preamble=ASK.get(shell, "")) for shell in FILES}
    scripts["bash"] += BASH_KEYS
    # shtab has zsh complete the first of several operands alone.
    scripts["zsh"] = re.sub(r'^  "\(\*\)::?', '  "*:', scripts["zsh"], flags=re.M)
    return {
        **{FILES[shell]: text for shell, text in scripts.items()},
        "share/man/man1/vswitch.1": manual(parser, version),
    }


def completer_of(command: str, action: argparse.Action) -> dict[str, Any] | None:
    """What completes names that are there now, or keys of settings, in each shell."""
    from vswitch.cli.completion import NAMES
    from vswitch.config.sources import options_of
    from vswitch.features.settings import PortSettings, SwitchSettings

    takes = {f"{command}.{action.dest}", f"*.{action.dest}"}
    if kinds := [kind for kind, where in NAMES.items() if takes & set(where.split())]:
        ask = f"_vswitch_{'_'.join(kinds)}"
        wanted = ",".join(kinds)
        return {
            "bash": ask,
            "zsh": f"_vswitch_names {wanted}",
            "fish": f"(vswitch completion names {wanted} (commandline -opc) 2>/dev/null)",
            "preamble": {"bash": f'{ask}() {{ _vswitch_names {wanted} "$1"; }}'},
        }
    keys = {
        "port.changes": options_of(PortSettings),
        "switch.changes": options_of(SwitchSettings),
        "member.changes": ("routes",),
    }
    if not (known := keys.get(f"{command}.{action.dest}")):
        return None
    words = " ".join(f"{key}=" for key in known)
    return {
        "bash": f"_vswitch_{command}_keys",
        "zsh": f"compadd -S '' - {words}",
        "fish": words,
        "preamble": {"bash": f"_vswitch_{command}_keys() {{ compgen -W '{words}' -- \"$1\"; }}"},
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
    commands = (each for _, action in actions(parser) for each in parsers(action).values())
    said = (
        epilog.partition("examples:\n")[2],
        *(each.epilog.partition("\n")[2] for each in commands),
    )
    examples = textwrap.dedent("\n".join(said))
    sections = {
        "exit status": listed(exit_codes()),
        "environment": listed(environment()),
        "files": listed(files()),
        "examples": f".nf\n{roff(examples)}\n.fi",
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


def actions(
    parser: argparse.ArgumentParser, command: str = ""
) -> Iterator[tuple[str, argparse.Action]]:
    """All that can stand on the command line, with the command that it is of."""
    for action in parser._actions:
        yield command, action
        for name, each in parsers(action).items():
            yield from actions(each, name)
