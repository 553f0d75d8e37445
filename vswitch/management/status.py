"""What a switch and a member tell about themselves: classes that are JSON on the way.

The JSON is what `--json` prints: `schema` is 1, keys are only ever added. Times are wall-clock
seconds since the epoch, durations seconds, sizes bytes. `rx` is into the switch (or into the
member), `tx` is out of it. `drops` are frames by reason, `transport_drops` datagrams. None means
that it is not known or not there.

Error contract: `from_json` raises `VswitchError` for what is not such an object; keys that this
version does not know are ignored.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import Factory, frozen

from vswitch.errors import VswitchError
from vswitch.proxy.status import ProxyStatus

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

SCHEMA = 1


# Services that are begun again after a fault has ended them.
BEGUN_AGAIN = frozenset(("names", "dhcp", "adverts"))


@frozen(kw_only=True)
class PortStatus:
    """One port of a switch. `via` says how it is attached now, such as `udp:203.0.113.9:41022` or
    `https:203.0.113.9:41022`.
    """

    port: int
    name: str
    state: str
    address: str | None = None
    offered: list[str] = Factory(list)  # networks behind it, as the member says
    routes: list[str] = Factory(list)  # those that are approved, and so in force
    blocked: str | None = None  # why nothing passes for a while: loop, bpdu
    via: str | None = None
    rtt_ms: float | None = None
    datagram_size: int | None = None  # UDP payload that the path takes, as far as is known
    post_quantum: bool | None = None  # whether its handshake had ML-KEM-768 in it
    lane: str | None = None  # what frames leave on now: kcp or datagram
    lane_mode: str | None = None  # what was agreed: kcp, datagram or auto
    datagram_sent: int = 0  # units of the datagram lane
    datagram_received: int = 0  # units of that lane
    datagram_lost: int = 0  # units of ours, as the member has reported
    loose_sent: int = 0  # datagram_sent, by the name that it had first: keys stay
    loose_received: int = 0  # datagram_received
    loose_lost: int = 0  # datagram_lost
    rx_frames: int = 0  # into the switch
    rx_bytes: int = 0  # of these, as Ethernet
    tx_frames: int = 0  # out of the switch
    tx_bytes: int = 0  # of these, as Ethernet
    flood_copies: int = 0  # made of what came in here, beyond the first of each
    queued_frames: int = 0  # that wait for the port's device now
    queued_bytes: int = 0  # of these
    held_frames: int = 0  # that an impairment delays now
    drops: dict[str, int] = Factory(dict)
    transport_drops: dict[str, int] = Factory(dict)
    since: float | None = None
    impaired: str | None = None  # what `vswitch impair` does to it now
    settings: dict[str, Any] = Factory(dict)  # as they are in force, where anybody has said so


@frozen(kw_only=True)
class ForeignStatus:
    """One listener for what speaks no vswitch. `refused` are clients or datagrams without a port,
    by reason; `ended` is why it serves nobody any more: the reference of a fault in the log.
    """

    name: str
    kind: str
    listen: str
    ended: str | None = None
    refused: dict[str, int] = Factory(dict)


@frozen(kw_only=True)
class PublishStatus:
    """One published service. `name` is what its member is called now, "" for nobody; `address` is
    where it is, or `why` is the reason why it is nowhere: no_name, away, no_address. The rest is as
    in `ProxyStatus`; `ended` is the reference of a fault in the log; `live` of `vswitch publish`.
    """

    listen: str
    to: str
    name: str = ""
    address: str | None = None
    why: str = ""
    live: bool = False
    open: int = 0
    total: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    failed: dict[str, int] = Factory(dict)
    drops: dict[str, int] = Factory(dict)
    ended: str | None = None


@frozen(kw_only=True)
class FaultStatus:
    """A mistake of vswitch, and what it has ended: a port, a feature or an observer."""

    ended: str
    port: str  # its name; "" for everywhere
    error: str
    reference: str  # of the line in the log that has the traceback


@frozen(kw_only=True)
class RekeyMember:
    """A member that has not moved to the new key of the switch."""

    network: str
    name: str
    last_seen: float | None = None


@frozen(kw_only=True)
class RekeyStatus:
    """The key of a switch, and while a new one replaces it the old one, which is good `until`. Keys
    are fingerprints. `invites` are open ones that name the old key.
    """

    key: str
    old_key: str | None = None
    since: float | None = None
    until: float | None = None
    waiting: list[RekeyMember] = Factory(list)
    invites: int = 0
    schema: int = SCHEMA


@frozen(kw_only=True)
class SwitchStatus:
    """A network of a running switch. `members` counts those who may connect, `ports` shows who is;
    `listen` is the first of `listens`, as `public` is of `publics`.
    """

    version: str
    uptime_s: float
    listen: str
    subnet: str
    mtu: int
    members: int
    network: str = "default"  # whose ports and members these are
    networks: list[str] = Factory(list)  # all that the running program serves
    listens: list[str] = Factory(list)
    public: str | None = None
    publics: list[str] = Factory(list)
    key: str | None = None  # fingerprint of its public key, which members have pinned
    rekey: RekeyStatus | None = None  # while there are two keys
    https: str | None = None  # where it listens for HTTPS
    api: str | None = None  # where it listens for the API in plain HTTP
    web: dict[str, dict[str, int]] = Factory(dict)  # why HTTP clients were refused, by listener
    foreign: list[ForeignStatus] = Factory(list)
    published: list[PublishStatus] = Factory(list)
    ports: list[PortStatus] = Factory(list)
    totals: dict[str, int] = Factory(dict)  # of all ports, those that are gone included
    transport_drops: dict[str, int] = Factory(dict)
    faults: list[FaultStatus] = Factory(list)  # the latest, oldest first
    ended: list[FaultStatus] = Factory(list)  # what each feature ended with that has
    schema: int = SCHEMA


@frozen(kw_only=True)
class MemberStatus:
    """One member of the registry; `connected` is None while the switch does not run."""

    name: str
    fingerprint: str
    key: str
    created: float
    address: str | None = None
    last_seen: float | None = None
    revoked: float | None = None
    disabled: float | None = None
    connected: bool | None = None
    via: str | None = None
    post_quantum: bool | None = None  # of its session: whether the handshake had ML-KEM-768 in it
    routes: list[str] = Factory(list)  # networks behind it that are approved
    offered: list[str] = Factory(list)  # others that it says are behind it, while it is connected
    switch_key: str | None = None  # fingerprint of the switch's key that its host used last


@frozen(kw_only=True)
class InviteStatus:
    """One invite that can still be used. `again` says that the name is a member's already;
    `old_key` that it names the switch's key of before, and expires with that at the latest.
    """

    name: str
    created: float
    expires: float
    again: bool
    old_key: bool = False


@frozen(kw_only=True)
class JoinStatus:
    """A running join. `state` is `connecting`, `up`, or `silent` while the switch owes answers for
    three seconds or more; `since` is when it connected, or lost the connection.
    """

    name: str
    state: str
    server: str
    dev: str | None = None
    mac: str | None = None
    address: str | None = None
    mtu: int | None = None
    path: str | None = None  # how the switch is reached now: udp, or https:ADDRESS:PORT
    rtt_ms: float | None = None
    datagram_size: int | None = None  # UDP payload that the path takes, as far as is known
    post_quantum: bool | None = None  # whether the handshake had ML-KEM-768 in it
    lane: str | None = None  # what frames leave on now: kcp or datagram
    lane_mode: str | None = None  # what was agreed: kcp, datagram or auto
    datagram_sent: int = 0  # units of the datagram lane, and how many of ours were reported lost
    datagram_received: int = 0
    datagram_lost: int = 0
    loose_sent: int = 0  # the same three by the names that they had first: keys stay
    loose_received: int = 0
    loose_lost: int = 0
    rx_frames: int = 0
    rx_bytes: int = 0
    tx_frames: int = 0
    tx_bytes: int = 0
    drops: dict[str, int] = Factory(dict)
    since: float | None = None
    error: str | None = None
    attempts: int = 0  # to connect, that have failed since it last was
    switch_key: str | None = None  # fingerprint of what this member has pinned
    version: str = ""  # of this join
    switch_software: str = ""  # what the switch said that it is, when this member connected
    seen: str = ""  # where it saw this member then: behind a NAT, its outside
    refused: dict[str, str] = Factory(dict)  # what the switch said of address or MTU, and why not
    names: str | None = None  # the domain that its name server is asked for, and by what means
    lacking: dict[str, str] = Factory(dict)  # what others have changed of `dev`, and to what
    routes: dict[str, str] = Factory(dict)  # networks, and the member that leads there
    routes_refused: dict[str, str] = Factory(dict)  # what the switch says besides, and why not
    advertised: dict[str, str] = Factory(dict)  # networks behind this host: in use, or why not
    exit_node: str | None = None  # of `--exit-node`, and how it is reached
    proxy: list[ProxyStatus] = Factory(list)  # the listeners, of `vswitch proxy` alone
    schema: int = SCHEMA


@frozen(kw_only=True)
class Peer:
    """Another member, as the switch says."""

    name: str
    address: str | None
    mac: str | None
    state: str | None


@frozen(kw_only=True)
class Peers:
    """The other members."""

    members: list[Peer]


@cache
def _converter() -> Converter:
    from cattrs import Converter  # not for a command that nothing answers

    return Converter()


def datagram_counts(sent: int, received: int, lost: int) -> dict[str, Any]:
    """The counts of the datagram lane by their names above, old and new."""
    counts = (("sent", sent), ("received", received), ("lost", lost))
    return {f"{lane}_{what}": count for lane in ("datagram", "loose") for what, count in counts}


def to_json(status: object) -> dict[str, Any]:
    """The JSON object of a status."""
    result: dict[str, Any] = _converter().unstructure(status)
    return result


def from_json(data: object, kind: type[T]) -> T:
    """The status of this kind from its JSON object.

    Raises:
        VswitchError: it is none; most likely the other program is of another version.
    """
    from cattrs import BaseValidationError

    try:
        return _converter().structure(data, kind)
    except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError):
        raise VswitchError(
            f"the running program answered no {kind.__name__}: is it the same version?"
        ) from None
