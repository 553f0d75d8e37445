"""Probes of the way to a switch: names, UDP, HTTPS, MTU, clocks.

With a key (a join string, or the profile of a member that is not connected) the switch is asked by
a handshake as `join` does it, and the session is closed again before it says hello: that spends no
invite, plugs nobody in, and is nothing new on the wire. Without one, an empty datagram goes to the
place: a switch drops it in silence, and a host on which nobody listens says so by ICMP. Where a
handshake has no answer, the place is asked for a proof of the key alone, which a switch gives to
strangers, too.

Error contract: none of its own; what goes wrong is a fact.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final

import attrs
import trio

from transport.crypto.identity import PublicKey
from transport.platform import LINUX
from vswitch.addresses import HostPort
from vswitch.doctor import nat
from vswitch.doctor.findings import MTU_SLACK, UDP_OVER_IP, PathFacts
from vswitch.doctor.host import addresses as own_addresses
from vswitch.errors import RefusedError, TimedOut, VswitchError
from vswitch.joining.knock import Place, knock
from vswitch.joining.paths import PathPolicy
from vswitch.joining.pipes import RunPipe
from vswitch.joining.profiles import Profile
from vswitch.joining.reach import (
    NoCommonHandshake,
    Reached,
    ResolvedAddresses,
    Unreachable,
    open_channel,
)
from vswitch.management.status import JoinStatus
from vswitch.members.handshakes import PostQuantum

UDP_PATIENCE: Final = 5.0  # seconds: the fourth init has left by then
HTTPS_PATIENCE: Final = 5.0  # seconds for the handshake in a pipe that is open
SEARCH_TIME: Final = 6.0  # seconds for the search of the path MTU
SETTLED: Final = 2.0  # seconds without a new size after which the search counts as done
CLOSED_WAIT: Final = 0.5  # seconds for ICMP to come back
CLOSED_LOOKS: Final = 7  # which are more than the 3 s after which ARP has found nobody (arp(7))
CLOCK_PATIENCE: Final = 5.0  # seconds for an answer with the time
UNUSED_PORT: Final = 9  # discard (RFC 863), which hardly any host has
_LOOK: Final = 0.1  # seconds between two looks
_MTU_OF_SOCKET: Final = {  # what the kernel knows of the path: ip(7), ipv6(7)
    socket.AF_INET: (socket.IPPROTO_IP, 14),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 24),
}
_ALL_ERRORS: Final = {  # IP_RECVERR, IPV6_RECVERR: also that a host or network is out of reach
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}


async def ask(profile: Profile, run_pipe: RunPipe, post_quantum: PostQuantum) -> PathFacts:
    """Ask the switch of this profile by each path that it has."""
    facts = PathFacts(place=profile.where, key=profile.server_key.fingerprint())
    addresses = ResolvedAddresses()
    try:
        await addresses.look_up(profile.servers)
    except Unreachable as error:
        facts = attrs.evolve(facts, unresolved=str(error))
    else:
        facts = await _ask_udp(facts, profile, addresses, post_quantum)
    if profile.https and facts.refused is None and facts.no_handshake is None:
        facts = await _ask_https(facts, profile, run_pipe, post_quantum)
        facts = attrs.evolve(facts, skew=await ask_clock(profile.https[0]))
    if facts.silent is not None and facts.https_ms is None:
        facts = await _look_closer(facts, profile.server_key, addresses.known)
    return facts


async def ask_beside(join: JoinStatus, profile: Profile) -> PathFacts:
    """What can be told of the way of a running join that is not connected, without its key, which
    is in use.
    """
    facts = PathFacts(place=profile.where, key=profile.server_key.fingerprint())
    try:
        places = await ResolvedAddresses().look_up(profile.servers)
    except Unreachable as error:
        return attrs.evolve(facts, unresolved=str(error))
    if not join.attempts:
        return facts
    return await _look_closer(attrs.evolve(facts, silent=join.error), profile.server_key, places)


async def _look_closer(facts: PathFacts, key: PublicKey, places: Sequence[Place]) -> PathFacts:
    """Who it is that does not answer a handshake by UDP, if anybody."""
    open_, closed = list[Place](), list[Place]()
    for place in places:
        (closed if await _is_closed_or_away(*place) else open_).append(place)
    shown, alone = list[Place](), list[Place]()

    async def ask_for_key(places: Sequence[Place]) -> None:
        shown.extend(await knock(key, places))

    async def look_beside(host: str, port: int) -> None:
        if await _is_closed_or_away(host, UNUSED_PORT):
            alone.append((host, port))

    async with trio.open_nursery() as nursery:
        for six in (False, True):
            nursery.start_soon(ask_for_key, [each for each in open_ if (":" in each[0]) is six])
        for place in open_:
            nursery.start_soon(look_beside, *place)
    return attrs.evolve(
        facts,
        key_shown=", ".join(_text(*each) for each in shown) or None,
        closed=_refused(closed) if closed and not open_ else None,
        others_closed=", ".join(_text(*each) for each in alone) or None,
    )


async def ask_nat(
    facts: PathFacts, profile: Profile, time: float, post_quantum: PostQuantum, *, connected: bool
) -> PathFacts:
    """The same, with what can be told of a NAT on the way. `time`: seconds in which to find out how
    long a mapping lives, by a session of its own, which `connected` forbids.
    """
    addresses = ResolvedAddresses()
    try:
        places = await addresses.look_up(profile.servers)
    except Unreachable:
        return facts  # which say so
    carrier = None
    for place in [each for each in places if ":" not in each[0]][:1]:
        carrier = await nat.carrier(*place)
    one_port = await nat.one_port(profile.server_key, places)
    facts = attrs.evolve(facts, carrier=carrier, one_port=one_port)
    if facts.udp_ms is not None and not connected:
        with suppress(VswitchError, trio.BrokenResourceError):  # the path has failed: not known
            if sighted := await nat.look(profile, places[0], time, post_quantum):
                own = await trio.to_thread.run_sync(own_addresses)
                facts = attrs.evolve(facts, own=own, **attrs.asdict(sighted))
    return facts


async def _ask_udp(
    facts: PathFacts, profile: Profile, addresses: ResolvedAddresses, post_quantum: PostQuantum
) -> PathFacts:
    begun = trio.current_time()
    try:
        async with _open(profile, addresses, "udp", None, UDP_PATIENCE, post_quantum) as reached:
            facts = attrs.evolve(facts, udp_ms=1000 * (trio.current_time() - begun))
            host, port = reached.channel.address[:2]
            mtu, version = link_mtu(str(host), int(port))
            most = None if mtu is None else mtu - UDP_OVER_IP[version] - MTU_SLACK
            size = await _searched(reached, most)
            return attrs.evolve(facts, datagram_size=size, link_mtu=mtu, ip_version=version)
    except NoCommonHandshake as error:
        return attrs.evolve(facts, no_handshake=str(error))
    except RefusedError as error:
        return attrs.evolve(facts, refused=str(error))
    except TimedOut as error:
        return attrs.evolve(facts, silent=str(error))
    except Unreachable as error:
        return attrs.evolve(facts, unreachable=str(error))
    except VswitchError as error:
        return attrs.evolve(facts, silent=str(error))


async def _ask_https(
    facts: PathFacts, profile: Profile, run_pipe: RunPipe, post_quantum: PostQuantum
) -> PathFacts:
    begun = trio.current_time()
    facts = attrs.evolve(facts, https_tried=True)
    try:
        async with _open(
            profile, ResolvedAddresses(), "https", run_pipe, HTTPS_PATIENCE, post_quantum
        ):
            return attrs.evolve(facts, https_ms=1000 * (trio.current_time() - begun))
    except NoCommonHandshake as error:
        return attrs.evolve(facts, no_handshake=str(error))
    except RefusedError as error:
        return attrs.evolve(facts, refused=str(error))
    except VswitchError as error:
        said = str(error)
        return attrs.evolve(facts, https_failed=said, https_answered="with status 404" in said)


def _open(
    profile: Profile,
    addresses: ResolvedAddresses,
    wish: str,
    run_pipe: RunPipe | None,
    patience: float,
    post_quantum: PostQuantum,
) -> Any:
    return open_channel(
        profile,
        None,
        addresses,
        PathPolicy(wish, https=run_pipe is not None),
        run_pipe,
        patience=patience,
        resolved=trio.lowlevel.checkpoint,
        post_quantum=post_quantum,
    )


async def _searched(reached: Reached, most: int | None) -> int:
    """The size of datagrams, once it is `most` or has not grown for a while."""
    channel = reached.channel
    size, since = channel.statistics().datagram_size, trio.current_time()
    with trio.move_on_after(SEARCH_TIME):
        while trio.current_time() - since < SETTLED and (most is None or size < most):
            await trio.sleep(_LOOK)
            found = channel.statistics().datagram_size
            if found != size:
                size, since = found, trio.current_time()
    return size


def link_mtu(host: str, port: int) -> tuple[int | None, int]:
    """What the kernel holds the MTU of the way to an address for, in bytes, and the IP version."""
    literal = host.removeprefix("::ffff:") if "." in host else host
    family = socket.AF_INET6 if ":" in literal else socket.AF_INET
    version = 6 if family == socket.AF_INET6 else 4
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((literal, port))
        return probe.getsockopt(*_MTU_OF_SOCKET[family]), version
    return None, version


async def ask_clock(url: str) -> float | None:
    """As `skew_at`, for so long and no longer, however slowly the answer comes."""
    with trio.move_on_after(CLOCK_PATIENCE):
        return await trio.to_thread.run_sync(skew_at, url, abandon_on_cancel=True)
    return None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Who is behind the URL has shown no key: this host asks nobody else because he says so."""

    def redirect_request(self, *_: object) -> None:
        return None


def skew_at(url: str) -> float | None:
    """Seconds that this clock is ahead of the one behind `url`; None where nothing says so."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _StayHere)
    sent = time.time()
    try:
        with opener.open(url, timeout=CLOCK_PATIENCE) as answer:
            said = answer.headers["Date"]
    except urllib.error.HTTPError as error:  # no page there, which has the time as well
        said = error.headers["Date"]
        error.close()
    except (OSError, ValueError, http.client.HTTPException):  # the last: it speaks no HTTP
        return None
    return skew_of(said, sent, time.time())


def skew_of(said: str | None, sent: float, received: float) -> float | None:
    """How far a clock that read `sent` and `received` around the answer is ahead of its `Date`."""
    try:
        there = parsedate_to_datetime(said or "").timestamp()
    except (ValueError, OverflowError):  # the latter: a year, or a zone, beyond all numbers
        return None
    return (sent + received) / 2 - there


async def ask_place(place: HostPort) -> PathFacts:
    """What can be told of a place without a key: whether it is there at all."""
    facts = PathFacts(place=place.text())
    addresses = ResolvedAddresses()
    try:
        found = await addresses.look_up([place])
    except Unreachable as error:
        return attrs.evolve(facts, unresolved=str(error))
    closed, unreachable = list[Place](), list[str]()
    for host, port in found:
        try:
            if await _is_closed(host, port):
                closed.append((host, port))
        except OSError as error:
            unreachable.append(f"{host}: {error.strerror}")
    if len(closed) == len(found):
        return attrs.evolve(facts, closed=_refused(closed))
    if len(unreachable) == len(found):
        return attrs.evolve(facts, unreachable="; ".join(unreachable))
    mtu, version = link_mtu(*found[0])
    return attrs.evolve(facts, keyless=True, link_mtu=mtu, ip_version=version)


def _text(host: str, port: int) -> str:
    return HostPort(host.partition("%")[0], port).text()


def _refused(places: Sequence[Place]) -> str:
    return "; ".join(f"{_text(*each)}: ICMP says so" for each in places)


async def _is_closed_or_away(host: str, port: int) -> bool:
    with suppress(OSError):
        return await _is_closed(host, port)
    return False


async def _is_closed(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as probe:
        if LINUX:
            probe.setsockopt(*_ALL_ERRORS[family], 1)
        await probe.connect((host, port))
        for _ in range(CLOSED_LOOKS):
            with trio.move_on_after(CLOSED_WAIT):
                try:
                    await probe.send(b"")
                    await probe.recv(1)
                except ConnectionRefusedError:
                    return True
    return False


def of_status(join: JoinStatus, own: Sequence[str]) -> PathFacts:
    """What a join that is connected knows of its path; `own` are the addresses of this host."""
    if join.path not in (None, "udp"):
        return PathFacts(place=join.server, https_tried=True, https_ms=join.rtt_ms)
    return PathFacts(
        place=join.server,
        udp_ms=join.rtt_ms,
        datagram_size=join.datagram_size,
        seen=join.seen or None,
        own=own,
    )
