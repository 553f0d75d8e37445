"""The DHCP server and the router advertisements: what any machine of the LAN may send them.

Invariants: nothing but BadRecord is raised; an address has one holder and no member's is given; a
port has no more than its share; an answer is a message that fits into a frame.
"""

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from tests.fuzz.frames import damaged
from tests.fuzz.reader import Reader
from vswitch.errors import BadRecord
from vswitch.frames.bootp import DhcpMessage, Kind, build_dhcp, read_dhcp_untrusted
from vswitch.frames.routers import check_solicitation_untrusted
from vswitch.services.dhcp import Answer, Asker, Dhcp, Free, Keep, Probe
from vswitch.services.leases import Client
from vswitch.services.terms import DhcpSettings

SUBNET = IPv4Network("10.77.0.0/28")
HELD = {IPv4Address("10.77.0.9"): "pc1"}
SETTINGS = DhcpSettings(
    range="10.77.0.4-10.77.0.13",
    reservations={"52:54:00:00:00:01": "10.77.0.5"},
    lease_time=120.0,
    port_limit=3,
    routes=["192.168.0.0/16 via 10.77.0.4"],
)
SERVERS = (IPv4Address("10.77.0.1"), IPv4Address("10.77.0.9"))
SOURCES = (IPv6Address("fe80::11"), IPv6Address("::"))
MOST_MESSAGES = 40


def _message(reader: Reader, mac: bytes) -> bytes:
    address = SUBNET.network_address + reader.below(16)
    options: dict[int, bytes] = {}
    for code in (50, 54, 51, 55, 57, 61, 12, reader.number()):
        if reader.chance(0.4):
            known = {50: address.packed, 54: SERVERS[reader.below(2)].packed}
            options[code] = known.get(code) or reader.blob(300)
    options.pop(53, None)
    message = DhcpMessage(
        kind=Kind(1 + reader.below(8)),
        transaction=reader.number(),
        mac=mac,
        op=2 if reader.chance(0.05) else 1,
        broadcast=reader.chance(0.5),
        client=address if reader.chance(0.4) else IPv4Address(0),
        relay=address if reader.chance(0.05) else IPv4Address(0),
        options=options,
    )
    return damaged(reader, build_dhcp(message))


def run_leases(data: bytes) -> None:
    reader, now = Reader(data), 0.0
    core = Dhcp(SETTINGS.pool(SUBNET), SETTINGS.terms(SUBNET, 1500), b"\x02\0\0\0\0\x99")
    core.pool.held = HELD
    leases: dict[str, bytes] = {}
    for _ in range(MOST_MESSAGES):
        if not reader:
            break
        now += reader.below(64) / 4
        mac, port = b"RT\0\0\0" + bytes((reader.below(6),)), f"p{reader.below(2)}"
        if reader.chance(0.1):
            steps = core.heard_arp(SUBNET[reader.below(16)], mac, port, now)
        else:
            asker = Asker(Client(mac, port), SUBNET[reader.below(16)])
            steps = core.receive_untrusted(_message(reader, mac), asker, now)
        for step in [*steps, *core.tick(now)]:
            match step:
                case Keep():
                    assert leases.get(step.lease.address, step.lease.mac) == step.lease.mac
                    leases = {at: who for at, who in leases.items() if who != step.lease.mac}
                    leases[step.lease.address] = step.lease.mac
                    _check(step.answer)
                case Free():
                    assert leases.pop(step.lease.address) == step.lease.mac
                case Answer():
                    _check(step)
                case Probe():
                    assert step.address not in HELD
        ports = [each.port for each in core.pool.leases.values()]
        assert max(ports.count("p0"), ports.count("p1")) <= 3
    with suppress(BadRecord):
        check_solicitation_untrusted(b"\x85\0\0\0" + reader.rest(), SOURCES[len(data) % 2])


def _check(answer: Answer) -> None:
    assert len(answer.payload) <= 1472
    message = read_dhcp_untrusted(answer.payload)
    assert message.kind == answer.kind
    assert message.given not in HELD


def leases_seeds() -> Iterator[tuple[str, bytes]]:
    never = bytes(8)
    for kind in range(8):
        # The time, the MAC, the port, no ARP, the source; the address, no option, kind, id, op.
        for flags in (0, 255):
            yield (
                f"message-{kind}-{flags}",
                bytes((1, 2, 0, 0, 0, 6, 61, *never, kind, 9, 0, flags, flags, 0, 0)),
            )
    wish = bytes((0, 255, 0, *bytes(7)))  # the address as an option
    asks = bytes((1, 2, 0, 0, 0, 6)) + wish
    yield "lease", asks + bytes((0, 9, 0, 0, 0, 0, 0)) + asks + bytes((2, 9, 0, 0, 0, 0, 0))
    yield "arp", bytes((1, 2, 0, 255, 7))
    yield "any", bytes(range(1, 250))
