"""`vswitch ping`: how far another member is, in two parts: to the switch, and from there on.

The first part is the round trip of the session, which the transport measures; the whole is an ICMP
echo over the LAN. On the switch's own host the session of the member is all of it.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotFound, NotRunning, PrivilegeError, TimedOut
from vswitch.frames.checksum import complete_checksum
from vswitch.logs import clean
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, JoinStatus, SwitchStatus, from_json

_PATIENCE = 2.0  # seconds for an answer
_INTERVAL = 1.0  # seconds
_ECHO, _REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")  # RFC 792: type, code, checksum, identifier, sequence number
_SIZE = 56  # bytes of data, as ping(8) has
_MOST = 1000


@frozen(kw_only=True)
class Trip:
    """One look: milliseconds, None for what did not come or cannot be known."""

    whole: float | None
    to_switch: float | None

    @property
    def beyond(self) -> float | None:
        """From the switch to the member and back; none where the two do not belong together."""
        if self.whole is None or self.to_switch is None:
            return None
        return max(self.whole - self.to_switch, 0.0)


@frozen(kw_only=True)
class Target:
    """Who is asked, and by which membership of this host."""

    name: str
    address: str | None
    join: str | None = None
    dev: str | None = None
    path: Path  # of the control socket that knows the round trip of the session


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "ping",
        "Ask another member for an echo, and tell how much of the round trip is that between this\n"
        "host and the switch. On the host of the switch: the round trip of a member's session.",
        "vswitch ping pc2 --count 5",
    )
    parser.add_argument("name", metavar="NAME", help="name or address of a member")
    parser.add_argument("-c", "--count", type=int, default=3, metavar="N", help="how often (3)")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask, one after the other; `TimedOut` if none is answered."""
    config = config_from(args, LookConfig)
    if not 1 <= args.count <= _MOST:
        raise ConfigError(f"--count {args.count}: from 1 to {_MOST}")
    target = _find(config, args.name)
    trips: list[Trip] = []
    for number in range(args.count):
        if number:
            time.sleep(_INTERVAL)
        trips.append(_look(target, number))
        if not config.json:
            answer(_line(target, trips[-1]))
    if config.json:
        print_json(_json(target, trips))
    if all(trip.whole is None and (target.join or trip.to_switch is None) for trip in trips):
        raise TimedOut(f"{target.name} has not answered: see `vswitch doctor` and `vswitch trace`")
    return ExitCode.OK


def _find(config: LookConfig, name: str) -> Target:
    """Among those that the switches of this host's joins know, or the ports of a switch here."""
    asked = 0
    for path in config.files.join_sockets():
        with suppress(NotRunning):
            join = from_json(request(path, "status"), JoinStatus)
            asked += 1
            for peer in request(path, "peers", timeout=30.0)["members"]:
                if name in (peer["name"], _bare(peer["address"])):
                    address = _bare(peer["address"])
                    return Target(
                        name=peer["name"], address=address, join=join.name, dev=join.dev, path=path
                    )
    with suppress(NotRunning):
        status = from_json(request(config.files.control_socket, "status"), SwitchStatus)
        asked += 1
        for port in status.ports:
            if name in (port.name, _bare(port.address)):
                path = config.files.control_socket
                return Target(name=port.name, address=_bare(port.address), path=path)
    if not asked:
        raise NotRunning(f"nothing runs in {config.files.path}: see `vswitch status`")
    raise NotFound(f"no member {name!r} is known: see `vswitch members`")


def _bare(address: str | None) -> str | None:
    return None if address is None else address.partition("/")[0]


def _look(target: Target, number: int) -> Trip:
    said = request(target.path, "status")
    if target.join is None:
        ports = from_json(said, SwitchStatus).ports
        times = [port.rtt_ms for port in ports if port.name == target.name and port.state == "up"]
        return Trip(whole=None, to_switch=times[0] if times else None)
    if target.address is None:
        raise NotFound(f"{target.name} has no address from the switch: ping(8) its own")
    whole = echo(target.address, target.dev, number)
    return Trip(whole=whole, to_switch=from_json(said, JoinStatus).rtt_ms)


def echo(address: str, dev: str | None, number: int) -> float | None:
    """Milliseconds until an ICMP echo is answered, None if it is not."""
    with _icmp_socket() as sock:
        if dev is not None:
            with suppress(PermissionError):  # older kernels want CAP_NET_RAW for it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(dev))
        raw = sock.type == socket.SOCK_RAW
        identifier, data = os.getpid() & 0xFFFF, os.urandom(_SIZE)
        asked = _HEADER.pack(_ECHO, 0, 0, identifier, number) + data
        asked = asked[:2] + complete_checksum(asked, 0, 2) + asked[4:]
        begun = time.monotonic()
        try:
            sock.sendto(asked, (address, 0))
            for packet in _packets(sock, begun + _PATIENCE):
                message = packet[(packet[0] & 15) * 4 :] if raw else packet
                if message[:1] == bytes((_REPLY,)) and message[8:] == data:
                    return (time.monotonic() - begun) * 1000
        except OSError:  # no route, or an ICMP error about it
            return None
    return None


def _icmp_socket() -> socket.socket:
    """One for users, as far as `net.ipv4.ping_group_range` goes; else one for root."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        with suppress(PermissionError):
            return socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
    raise PrivilegeError(
        "an echo needs a group within the sysctl net.ipv4.ping_group_range, or CAP_NET_RAW: run "
        "it as root"
    )


def _packets(sock: socket.socket, deadline: float) -> Iterator[bytes]:
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            packet = sock.recv(65535)
            if len(packet) > _HEADER.size:
                yield packet


def _line(target: Target, trip: Trip) -> str:
    where = clean(f"{target.name} ({target.address})" if target.address else target.name)
    if target.join is None:
        times = _ms(trip.to_switch) if trip.to_switch is not None else "not connected"
        return f"{where}: {times} between the switch and this member"
    if trip.whole is None:
        return f"{where}: no answer within {_PATIENCE:g} s; to the switch {_ms(trip.to_switch)}"
    return (
        f"{where}: {_ms(trip.whole)}: to the switch {_ms(trip.to_switch)}, "
        f"from there to {clean(target.name)} {_ms(trip.beyond)}"
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _json(target: Target, trips: list[Trip]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": target.name,
        "address": target.address,
        "join": target.join,
        "trips": [
            {"ms": trip.whole, "to_switch_ms": trip.to_switch, "beyond_ms": trip.beyond}
            for trip in trips
        ],
    }
