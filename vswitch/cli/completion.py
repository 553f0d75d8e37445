"""`vswitch completion`: what a shell needs to complete the command line.

That asks `vswitch completion names KIND WORD...` for the names that are there now, with all the
words typed so far. The answer is one name on each line, and nothing where nothing runs.

Invariant: such a name may come from another host, and goes to a shell as it is. One with anything
but letters, digits and `.:_-` is left out.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from vswitch.cli.common import Subparsers, add_command, answer, installed
from vswitch.errors import ExitCode, VswitchError

if TYPE_CHECKING:
    from vswitch.state import StateDir

FILES = {  # of each shell, below the prefix of an installation: made when the package is built
    "bash": "share/bash-completion/completions/vswitch",
    "zsh": "share/zsh/site-functions/_vswitch",
    "fish": "share/fish/vendor_completions.d/vswitch.fish",
}
NAMES = {  # what takes which names: COMMAND.OPERAND or COMMAND.OPTION
    "ports": "capture.ports counters.port impair.port mac.operands mac.port port.name ports.port "
    "status.name trace.frame wait.name",
    "members": "disable.name enable.name exec.exit_node join.exit_node member.name ping.name "
    "proxy.exit_node rename.name revoke.name",
    "joins": "config.join doctor.target exec.name join.name leave.name netcheck.target proxy.name "
    "service.name status.name wait.name",
    "networks": "*.network",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
_PATIENCE = 1.0  # seconds, for all that are asked
_VERBS = {"ports": "status", "members": "members"}
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


def tell_names(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Answer a shell; `words` are kinds of names, with commas between, and the line so far."""
    from vswitch.config.words import to_path
    from vswitch.state import DEFAULT_NETWORK, StateDir, default_state_dir

    kinds, *line = words
    wanted = [kind for kind in NAMES if kind in kinds.split(",")]
    said = [part for word in line for part in word.split("=", 1) if part]  # as bash has them
    given = dict(pairwise(said))
    state = given.get("--state") or environ.get("VSWITCH_STATE")
    network = given.get("--network") or environ.get("VSWITCH_NETWORK") or DEFAULT_NETWORK
    found: set[str] = set()
    with suppress(ValueError, OSError):  # of a path that no command takes
        files = StateDir(to_path(state) if state else default_state_dir(environ, os.geteuid()))
        for kind in wanted:
            found.update(_names(kind, files, network))
    answer(*sorted(filter(_NAME.fullmatch, found)))
    return ExitCode.OK


def _names(kind: str, files: StateDir, network: str) -> Iterator[str]:
    """Names of a kind, as far as somebody tells them."""
    from vswitch.management.client import request

    until = time.monotonic() + _PATIENCE
    with suppress(VswitchError, OSError):
        if kind == "networks":
            yield from files.networks()
        elif kind == "joins":
            yield from (path.stem for path in files.members.glob("*.toml"))
        else:
            said = request(files.network(network).control_socket, _VERBS[kind], _PATIENCE)
            yield from (each["name"] for each in said[kind])
    if kind == "members":
        for path in files.join_sockets():
            with suppress(VswitchError, OSError):
                said = request(path, "peers", until - time.monotonic())
                yield from (each["name"] for each in said["members"])
