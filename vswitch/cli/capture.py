"""`vswitch capture`: the frames that pass ports of the running switch, and what becomes of them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vswitch.cli.common import Subparsers, add_command, config_from, say, write_bytes
from vswitch.config.options import OneNetworkConfig
from vswitch.config.quantities import to_duration
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotReachable, VswitchError
from vswitch.frames.pcapng import totals_at_end
from vswitch.management.client import ClientStream, open_stream

_WHAT = "the capture"
_TAIL = 1 << 20  # bytes: the statistics of some thousand ports


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "capture",
        "Show the frames that come into the switch and leave it on these ports, each with what\n"
        "the switch does with it, or save them as pcapng for Wireshark, tshark and tcpdump. Ends\n"
        "with Ctrl-C. Filters: host, src, dst ADDRESS; type, vlan, port, proto N; ip, ip6, arp,\n"
        "tcp, udp, icmp, icmp6, igmp, broadcast, multicast; and, or, not, ( ).",
        "vswitch capture --all -w - --filter 'arp or port 53' | tshark -r -",
    )
    parser.add_argument("ports", nargs="*", metavar="PORT", help="names or numbers of ports")
    # As tcpdump has them.
    parser.add_argument(
        "-i", dest="interfaces", action="append", default=[], rare=True, help="see PORT; any"
    )
    parser.add_argument(
        "-n", action="store_true", rare=True, help="nothing: names are never looked up"
    )
    parser.add_argument("--all", action="store_true", help="all ports, also those that will come")
    parser.add_argument(
        "-w", "--write", metavar="FILE", help="save as pcapng; - is standard output"
    )
    parser.add_argument("--filter", metavar="EXPR", default="", help="only such frames")
    parser.add_argument(
        "-Q", "--direction", choices=("in", "out", "both"), default="both", rare=True
    )
    parser.add_argument(
        "-s", "--snaplen", type=int, metavar="N", rare=True, help="bytes of each frame (all)"
    )
    parser.add_argument("-c", "--count", type=int, metavar="N", help="end after so many frames")
    parser.add_argument("--for", dest="seconds", metavar="TIME", help="end after 30s, 10m, 1h")
    parser.add_argument("--drops", action="store_true", help="only frames that the switch drops")
    add_flags(parser, OneNetworkConfig)


def run(args: argparse.Namespace) -> int:
    """Copy the stream until it ends."""
    config = config_from(args, OneNetworkConfig)
    try:
        seconds = None if args.seconds is None else to_duration(args.seconds)
    except ValueError as error:
        raise ConfigError(f"--for {args.seconds}: {error}") from None
    args.all = args.all or "any" in args.interfaces
    args.ports += [name for name in args.interfaces if name != "any"]
    if bool(args.ports) == args.all:
        raise ConfigError("name the ports to capture on, or all of them with --all")
    if args.write == "-" and sys.stdout.isatty():
        raise ConfigError("-w -: pcapng is not for a terminal: pipe it into `tshark -r -`")
    asked = open_stream(
        config.files.control_socket,
        "capture",
        port=args.ports,
        all=args.all,
        filter=args.filter,
        direction=args.direction,
        snaplen=args.snaplen,
        count=args.count,
        seconds=seconds,
        drops=args.drops,
        format="text" if args.write is None else "pcapng",
    )
    with asked as stream, _output(args.write) as out:
        tail = _copy(stream, out, lines=args.write is None)
    if args.write is None:
        totals = tuple(map(int, tail[1:].split())) if tail.startswith(b"#") else None
    else:
        totals = totals_at_end(tail)
    if totals is None:
        raise NotReachable("the switch has stopped, and the capture ends there")
    seen, missed = totals
    more = (
        f", {missed} missed: there were more than it may look at, or than were read in time"
        if missed
        else ""
    )
    say(f"vswitch: {seen - missed} frames captured{more}")
    return ExitCode.OK


def _copy(stream: ClientStream, out: BinaryIO, *, lines: bool) -> bytes:
    """Everything, until it ends or somebody ends it; the last megabyte of it. Of lines, the last
    one, which is not for `out`.
    """
    tail = b""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            try:
                piece = stream.read()
                if not piece:
                    return tail
                if lines:
                    *whole, tail = (tail + piece).splitlines(keepends=True)
                    if tail.endswith(b"\n") and not tail.startswith(b"#"):
                        whole, tail = [*whole, tail], b""
                    write_bytes(out, b"".join(whole), _WHAT)
                else:
                    write_bytes(out, piece, _WHAT)
                    tail = (tail + piece)[-_TAIL:]
            except KeyboardInterrupt:
                stream.finish()  # a second one ends the program
                signal.signal(signal.SIGINT, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _output(where: str | None) -> Iterator[BinaryIO]:
    if where is None or where == "-":
        yield sys.stdout.buffer
        return
    path = Path(where)
    try:
        # What it holds is private to who may ask for it.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise VswitchError(f"{path}: cannot be written: {error.strerror}") from None
    # What a buffer keeps would be written once more at the end, to a disk that is full.
    with os.fdopen(fd, "wb", buffering=0) as file:
        yield file
