"""Status for people: columns, sizes, ages. Pure, but for how wide a terminal is; no line is ever
broken by what a peer sent.

Error contract: none of these raises; unknown values are shown as `-`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

from vswitch.clocks import utc
from vswitch.logs import clean
from vswitch.management.status import (
    BEGUN_AGAIN,
    InviteStatus,
    JoinStatus,
    MemberStatus,
    PortStatus,
    PublishStatus,
    RekeyMember,
    RekeyStatus,
    SwitchStatus,
)
from vswitch.state import DEFAULT_NETWORK

_UNITS = "kMGTPE"
# Drops that a LAN has where nothing is wrong: they are in the JSON and in `vswitch counters`.
USUAL_DROPS = frozenset(("no_destination", "same_port", "reserved_destination", "group_report"))

_NARROWEST = 8  # characters of a column that is cut
_NAMED = 10  # members, in a line


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], room: int | None = None) -> str:
    """Left-aligned columns, two spaces apart, without spaces at the ends of lines.

    Where that is wider than `room` characters, by default those of a terminal that it is for, one
    space is between them, and the widest are cut, with a mark, to no less than `_NARROWEST`.
    """
    lines = [list(headers), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = _room() if room is None else room
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= room else " "
    over = sum(widths) + len(gap) * (len(widths) - 1) - room
    while over > 0 and max(widths) > _NARROWEST:
        widest = widths.index(max(widths))
        widths[widest] -= 1
        over -= 1
    return "\n".join(gap.join(map(_fit, line, widths)).rstrip() for line in lines)


def _fit(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else f"{cell[: width - 1]}…"


def _room() -> int:
    """Columns of the terminal that this is for; a file and a program take any number."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def size(number: float) -> str:
    """A count or a number of bytes with a decimal unit: 999, 1.2k, 310M."""
    if number < 1000:
        return str(int(number))
    power = 0
    # 999.5 and more would be written as 1000.
    while number >= 999.5 and power < len(_UNITS):
        number /= 1000
        power += 1
    unit = _UNITS[power - 1]
    return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"


def age(seconds: float) -> str:
    """A duration in its two largest units: 42s, 5m3s, 3d4h."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2])


def switch_line(status: SwitchStatus) -> str:
    """The line above the ports of a switch: what changes first, for a screen that cuts it."""
    public = f"  public {' and '.join(status.publics)}" if status.publics else ""
    key = f"  key {status.key}" if status.key else ""
    listens = " and ".join(status.listens or [status.listen])
    listens += f"  https {status.https}" if status.https else ""
    others = [each for each in status.networks if each != status.network]
    network = f"  network {status.network} (others: {', '.join(others)})" if others else ""
    return clean(
        f"switch {status.subnet}{network}  members {status.members}  up {age(status.uptime_s)}  "
        f"mtu {status.mtu}{key}  on {listens}{public}  vswitch {status.version}"
    )


def rekey_line(status: SwitchStatus) -> str:
    """While the switch has two keys: who has not moved."""
    rekey = status.rekey
    if rekey is None or rekey.until is None:
        return ""
    names = [_of_network(each) for each in rekey.waiting]
    said = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    return clean(
        f"new key {rekey.key}; the old one, {rekey.old_key}, is good until {_day(rekey.until)}; "
        + (f"not moved: {said}" if names else "all members have moved: `vswitch rekey --finish`")
    )


def rekey_text(status: RekeyStatus, now: float) -> str:
    """The answer of `vswitch rekey`."""
    if status.until is None:
        return f"key {status.key}; there is no older one"
    lines = [
        f"key {status.key}",
        f"old key {status.old_key}, good until {_day(status.until)} UTC "
        f"(for {age(status.until - now)})",
    ]
    if status.invites:
        lines.append(f"open invites that name the old key: {status.invites}")
    if not status.waiting:
        return "\n".join([*lines, "all members have moved"])
    rows = [
        [_of_network(each), "-" if each.last_seen is None else _day(each.last_seen)]
        for each in status.waiting
    ]
    return "\n".join([*lines, "", table(["NOT MOVED", "LAST SEEN"], rows)])


def _of_network(member: RekeyMember) -> str:
    named = f"{member.name} ({member.network})"
    return member.name if member.network == DEFAULT_NETWORK else named


def ended_lines(status: SwitchStatus) -> list[str]:
    """A line for each feature, service and foreign listener that a fault has ended, and for the
    last fault that has ended something else.
    """
    lines = [
        f"the feature or service {each.ended} has ended by a fault of vswitch ({each.error}), "
        f"until {'it' if each.ended in BEGUN_AGAIN else 'the switch'} is started again"
        f"{', within a minute' if each.ended in BEGUN_AGAIN else ''}: see the log for "
        f"{each.reference}"
        for each in status.ended
    ]
    lines += [
        f"the foreign listener {each.name} has ended by a fault of vswitch, until the switch is "
        f"started again: see the log for {each.ended}"
        for each in status.foreign
        if each.ended is not None
    ]
    lines += [
        f"what was published at {each.listen} has ended by a fault of vswitch, until it is "
        f"published again: see the log for {each.ended}"
        for each in status.published
        if each.ended is not None
    ]
    said = {each.reference for each in status.ended}
    said |= {each.ended for each in status.published if each.ended is not None}
    for last in status.faults[-1:]:
        if last.reference not in said:
            where = f" at port {last.port}" if last.port else ""
            lines.append(
                f"a fault of vswitch has ended {last.ended}{where} ({last.error}): see the log for "
                f"{last.reference}"
            )
    return [clean(line) for line in lines]


def ports_table(ports: Sequence[PortStatus]) -> str:
    """The ports of a switch."""
    return table(
        ["PORT", "NAME", "ADDRESS", "VIA", "LANE", "RTT", "RX", "TX", "DROPS", "STATE"],
        [
            [
                str(port.port),
                port.name,
                port.address or "-",
                port.via or "-",
                _lane(port.lane, port.lane_mode),
                _rtt(port.rtt_ms),
                size(port.rx_bytes),
                size(port.tx_bytes),
                size(sum(n for drop, n in port.drops.items() if drop not in USUAL_DROPS)),
                ", ".join([port.state, *_special(port)]),
            ]
            for port in ports
        ],
    )


def _special(port: PortStatus) -> Iterator[str]:
    """What makes a port another than its neighbours, and may be why somebody is not reached."""
    if port.impaired is not None:
        yield "impaired"
    for key in ("isolated", "trusted"):
        if port.settings.get(key) is True:
            yield key
    for key in ("vlan", "trunk"):
        if (value := port.settings.get(key)) is not None:
            yield f"{key} {value}"
    if port.settings.get("mirror"):
        yield "mirror"


def joins_table(joins: Sequence[JoinStatus], now: float) -> str:
    """The running joins of a host."""
    return table(
        [
            "NAME",
            "STATE",
            "SINCE",
            "DEV",
            "ADDRESS",
            "MTU",
            "SERVER",
            "PATH",
            "LANE",
            "RTT",
            "RX",
            "TX",
        ],
        [
            [
                join.name,
                join.state if join.post_quantum is not False else f"{join.state}, not post-quantum",
                "-" if join.since is None else age(now - join.since),
                join.dev or "-",
                join.address or "-",
                "-" if join.mtu is None else str(join.mtu),
                join.server,
                join.path or "-",
                _lane(join.lane, join.lane_mode),
                _rtt(join.rtt_ms),
                size(join.rx_bytes),
                size(join.tx_bytes),
            ]
            for join in joins
        ],
    )


def proxy_table(joins: Sequence[JoinStatus]) -> str:
    """The listeners of the proxies among these; "" for none."""
    rows = [
        [
            join.name,
            each.kind,
            each.listen,
            each.target or "-",
            str(each.open),
            size(each.total),
            size(sum(each.failed.values())),
            size(sum(each.drops.values())),
            size(each.up_bytes),
            size(each.down_bytes),
        ]
        for join in joins
        for each in join.proxy
    ]
    heads = ["NAME", "PROXY", "LISTEN", "TARGET", "OPEN", "ALL", "FAILED", "DROPS", "UP", "DOWN"]
    return table(heads, rows) if rows else ""


def published_table(published: Sequence[PublishStatus]) -> str:
    """What a switch publishes; "" for nothing."""
    rows = [
        [
            each.listen,
            each.to,
            each.address or each.why or "-",
            str(each.open),
            size(each.total),
            size(sum(each.failed.values())),
            size(sum(each.drops.values())),
            size(each.up_bytes),
            size(each.down_bytes),
        ]
        for each in published
    ]
    heads = ["PUBLISHED", "TO", "AT", "OPEN", "ALL", "FAILED", "DROPS", "UP", "DOWN"]
    return table(heads, rows) if rows else ""


def refusals(joins: Sequence[JoinStatus]) -> str:
    """What hosts do without though their switch has said it, or though it was set up, a line each;
    "" for nothing.
    """
    lines = [
        f"{join.name} does not take {what} {why}"
        for join in joins
        for what, why in join.refused.items()
    ] + [
        f"{join.name}: another program has changed {what} of {join.dev}: {found}"
        for join in joins
        for what, found in join.lacking.items()
    ]
    return "\n".join(map(clean, lines))


def routes_lines(joins: Sequence[JoinStatus]) -> str:
    """What hosts reach through other members, and others through them, a line each."""
    lines = []
    for join in joins:
        name = join.name
        if join.exit_node is not None:
            lines.append(f"{name} has as its way out {join.exit_node}")
        lines += [f"{name} reaches {each} through {how}" for each, how in join.routes.items()]
        refused = join.routes_refused.items()
        lines += [f"{name} takes no route to {each}: {why}" for each, why in refused]
        lines += [f"{name} offers {each}: {state}" for each, state in join.advertised.items()]
    return "\n".join(map(clean, lines))


def members_table(members: Sequence[MemberStatus]) -> str:
    """The members of a switch, with the key's fingerprint; with what is behind them, if any of
    them has anything.
    """
    heads = ["NAME", "ADDRESS", "KEY", "CREATED", "LAST SEEN", "STATE"]
    rows = [
        [
            member.name,
            member.address or "-",
            member.fingerprint,
            _day(member.created),
            "-" if member.last_seen is None else _day(member.last_seen),
            _member_state(member),
        ]
        for member in members
    ]
    routes = [_routes(member) for member in members]
    if any(routes):
        heads.append("ROUTES")
        rows = [[*row, each or "-"] for row, each in zip(rows, routes, strict=True)]
    return table(heads, rows)


def _routes(member: MemberStatus) -> str:
    """What is approved, and then what is not, though it offers it."""
    return " ".join([*member.routes, *(f"({each} offered)" for each in member.offered)])


def invites_table(invites: Sequence[InviteStatus]) -> str:
    """The invites that can still be used."""
    return table(
        ["INVITED", "SINCE", "UNTIL"],
        [
            [each.name, _day(each.created), _day(each.expires) + " (old key)" * each.old_key]
            for each in invites
        ],
    )


def _member_state(member: MemberStatus) -> str:
    if member.revoked is not None:
        return f"revoked {_day(member.revoked)}"
    if member.disabled is not None:
        return "disabled"
    if member.connected is None:
        return "-"
    if not member.connected:
        return "away"
    state = f"connected {member.via or ''}".strip()
    return state if member.post_quantum is not False else f"{state}, not post-quantum"


def _lane(lane: str | None, mode: str | None) -> str:
    """What is in force, and in parentheses where that may change."""
    if lane is None or mode is None:
        return "-"
    return lane if mode == lane else f"{mode}({lane})"


def _rtt(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}ms"


def _day(seconds: float) -> str:
    return utc(seconds, "%Y-%m-%d %H:%M")
