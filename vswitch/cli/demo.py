"""`vswitch demo`: see it work on this machine, in network namespaces."""

from __future__ import annotations

import argparse
import math
import secrets
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from vswitch.cli.common import Subparsers, add_command, print_json, say
from vswitch.errors import ExitCode, PrivilegeError

if TYPE_CHECKING:
    from vswitch.lab.lan import Lan

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_PATTERN_BYTES = 32  # too many to come about by chance
_LONGEST = 3600.0  # seconds


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "demo",
        "Build a switch host and two members in network namespaces, run the real commands in\n"
        "them, ping, send data, look whether the wire shows any of it, and report. Needs root or\n"
        "user namespaces, and /dev/net/tun; leaves nothing behind.",
        "vswitch demo --keep",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=3.0,
        metavar="N",
        help="how long to send data each way (3)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave it up until Ctrl-C, and say how to enter",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Tell the story, print the report: 0 only if all of it held."""
    # Not at the top: no other command needs any of it.
    from vswitch.demo.story import tell
    from vswitch.lab import Lab, missing_for_lab
    from vswitch.lab.lan import Lan

    missing = missing_for_lab()
    if missing:
        raise PrivilegeError(
            f"the demo needs {' and '.join(missing)}: run it as root, and where the TAP driver is"
            " there (`modprobe tun`; a container needs `--privileged --device /dev/net/tun`)"
        )
    with _signals_interrupt(), Lab() as lab:
        say("building a switch host and two members in network namespaces")
        lan = Lan(lab)
        pattern = secrets.token_bytes(_PATTERN_BYTES)
        report = tell(lan, pattern=pattern, seconds=args.seconds, say=say)
        if args.json:
            print_json(report.json())
        else:
            print(report.text(), flush=True)
        if args.keep:
            _keep(lan)
        say("taking everything down")
        lan.stop()
    return ExitCode.FAILED if report.problems else ExitCode.OK


def _keep(lan: Lan) -> None:
    say("\nall of it stays up until Ctrl-C; to enter a host:")
    for host in lan.lab.hosts.values():
        say(f"  {host.name:9} {host.enter}")
    say(
        f"what the switch says:\n  vswitch status --state {shlex.quote(str(lan.state(lan.switch)))}"
    )
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 3600")
    return seconds


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let every signal that ends a program run its clean-up: the first one; a second one ends it.

    Also then nothing stays behind: the hosts of a lab notice that it is gone.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
