"""`vswitch bench`: how good the link to another member is."""

from __future__ import annotations

import argparse
import math
from functools import partial

from vswitch import bench as linkbench
from vswitch.bench import DEFAULT_PORT, LONGEST, Figures, RoundTrips
from vswitch.cli.common import Subparsers, add_command, answer, print_json, run_service, say
from vswitch.config.words import to_interface
from vswitch.errors import ConfigError, ExitCode

_PORTS = range(1, 65536)


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "bench",
        "Run it with --serve on one member, and with that one's address or name on another: round\n"
        "trips (64 bytes over TCP), left alone and beside a stream, and the throughput of one TCP\n"
        "stream each way. Needs no privilege. It answers on one interface only.",
        "vswitch bench 10.77.0.3 --seconds 5",
    )
    parser.add_argument("host", nargs="?", metavar="HOST", help="address or name of the other")
    parser.add_argument("--serve", action="store_true", help="let others measure, until stopped")
    parser.add_argument(
        "--dev", type=_interface, default="vsw0", metavar="IFNAME", help="serve on this one (vsw0)"
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, metavar="N", help=f"TCP port ({DEFAULT_PORT})"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="N", help="how long, each way (3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Serve, or measure and print the figures."""
    if args.serve == (args.host is not None):
        raise ConfigError("give either --serve, or the HOST of a member that serves")
    if args.serve:
        return run_service(partial(_serve, args.dev, args.port))
    found: list[Figures] = []

    async def measure() -> None:
        found.append(await linkbench.measure(args.host, args.port, seconds=args.seconds))

    code = run_service(measure)
    if not found:
        return code or ExitCode.FAILED  # a signal came first
    if args.json:
        import attrs

        print_json({"schema": 1, "host": args.host, **attrs.asdict(found[0])})
    else:
        answer(_text(args.host, found[0]))
    return ExitCode.OK


async def _serve(dev: str, port: int) -> None:
    listener = linkbench.open_listener(dev, port)
    say(f"vswitch: answering on {dev}, TCP port {port}, until stopped")
    await linkbench.serve(listener)


def _text(host: str, figures: Figures) -> str:
    def times(label: str, rate: float | None, trips: RoundTrips) -> str:
        speed = "" if rate is None else f"{rate:.0f} Mbit/s"
        return f"{label:14}{speed:>13}{trips.minimum:9.2f}{trips.p50:9.2f}{trips.p99:9.2f}"

    return "\n".join(
        (
            f"{'':14}{'':13}{'ms min':>9}{'p50':>9}{'p99':>9}",
            times("idle", None, figures.idle),
            times(f"to {host}"[:14], figures.up_mbit, figures.up),
            times("back", figures.down_mbit, figures.down),
        )
    )


def _interface(text: str) -> str:
    try:
        return to_interface(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if port not in _PORTS:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return port


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 60")
    return seconds
