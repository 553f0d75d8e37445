"""`vswitch completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse
import sys
import sysconfig
from pathlib import Path

from vswitch.cli.common import Subparsers, add_command, answer
from vswitch.errors import ExitCode, NotFound

FILES = {  # of each shell, below the prefix of an installation: made when the package is built
    "bash": "share/bash-completion/completions/vswitch",
    "zsh": "share/zsh/site-functions/_vswitch",
    "fish": "share/fish/vendor_completions.d/vswitch.fish",
}


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "completion",
        "Print what bash, zsh or fish need to complete the command line of vswitch. Packages put\n"
        "it where these shells look; this is for an installation with pip, pipx or uv.",
        "vswitch completion bash >~/.local/share/bash-completion/completions/vswitch",
    )
    parser.add_argument("shell", choices=tuple(FILES), help="which shell it is for")


def run(args: argparse.Namespace) -> int:
    """Print the file that was made when the package was built."""
    places = [Path(each) / FILES[args.shell] for each in _prefixes()]
    for path in places:
        if path.is_file():
            answer(path.read_text().rstrip("\n"))
            return ExitCode.OK
    raise NotFound(
        f"{places[0]} is not there: completions are made when the package is built, and this is "
        "none that was; install vswitch from a wheel or a package"
    )


def _prefixes() -> list[str]:
    """Where data of a package is: of this interpreter, of its environment, of this user."""
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    return list(dict.fromkeys((sysconfig.get_path("data"), sys.prefix, user)))
