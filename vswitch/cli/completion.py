"""`vswitch completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, installed
from vswitch.errors import ExitCode

FILES = {  # of each shell, below the prefix of an installation: made when the package is built
    "bash": "share/bash-completion/completions/vswitch",
    "zsh": "share/zsh/site-functions/_vswitch",
    "fish": "share/fish/vendor_completions.d/vswitch.fish",
}
_OF_DEBIAN = {"zsh": "share/zsh/vendor-completions/_vswitch"}


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
    names = [each[args.shell] for each in (FILES, _OF_DEBIAN) if args.shell in each]
    answer(installed(*names).read_text().rstrip("\n"))
    return ExitCode.OK
