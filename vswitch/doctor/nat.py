"""Probes of the NAT between this host and a switch: what of it can be told from this side.

`one_port`: whether one socket has one port outside, whomever it sends to (RFC 4787 section 4.1,
endpoint-independent mapping), by what a switch says at two of its places. `carrier`: an address of
100.64.0.0/10, which carriers use before their NAT (RFC 6598), here or on the way. `look`: where
the switch sees this host, and how long a mapping without traffic leads inside.

That time is measured with one session through two sockets. Its path is the first one; then that
is silent. After a pause a ping of the same session leaves by the second, and is answered where the
path is, until another has proven itself, and the challenge to the second is left without an answer.
So the pong comes to the first, if its mapping is still there, and the challenge to the second
shows that the switch has answered. A switch keeps such a session if it is told that it is for that
(`look`), which also tells where it sees this host; an older one does not.

Error contract: None where nothing can be told; `look` passes on what `open_channel` raises.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import Final

import attrs
import trio

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort
from vswitch.devices.pump import BATCH
from vswitch.frames.ethernet import MAX_MTU
from vswitch.joining.knock import Place, knock
from vswitch.joining.paths import PathPolicy
from vswitch.joining.profiles import Profile
from vswitch.joining.reach import Reached, ResolvedAddresses, open_channel
from vswitch.members.device import MemberDevice
from vswitch.members.handshakes import PostQuantum
from vswitch.members.protocol import TO_LOOKER, ControlMessage, Look, Sight
from vswitch.runtime import single_error

FIRST_PAUSE: Final = 1.0  # seconds; each is twice as long as the one before, up to
LONGEST_PAUSE: Final = 45.0  # well below the silence after which a switch ends a session (60 s)
CLOSE_ENOUGH: Final = 1.5  # a pause that was not outlived by one that was, above the first pause
SETTLE: Final = 1.0  # seconds until all is acknowledged that the session began with
ANSWER_WAIT: Final = 2.5  # seconds for pong and challenge: two pings
HANDSHAKE_PATIENCE: Final = 5.0
MOST_HOPS: Final = 4  # a carrier's NAT is near
HOP_WAIT: Final = 1.0  # seconds for ICMP of all of them
_LONGEST: Final = 1232  # bytes of a datagram: one that every path takes, so none is tried
_CONTROL: Final = 5  # type of a datagram (docs/wire-format.md)
_LOOK: Final = 0.05  # seconds
_SHARED: Final = ip_network("100.64.0.0/10")
_IP_RECVERR: Final = 11  # ip(7)
_ERROR: Final = struct.Struct("=IBBBBII")  # sock_extended_err; the address follows
_FROM_ICMP: Final = 2


async def one_port(key: PublicKey, places: Sequence[Place]) -> bool | None:
    """Whether a switch sees one socket at one port at two of its places. None: it has shown itself
    at one at most.
    """
    for six in (False, True):
        asked = [each for each in places if (":" in each[0]) is six]
        if len(asked) < 2:
            continue
        cookies = await knock(key, asked)
        if len(cookies) < 2:
            continue
        if len(set(cookies.values())) == 1:
            return True
        # Or the secret behind them has changed in this moment, as it does every two minutes.
        return len(set((await knock(key, asked)).values())) == 1
    return None


async def carrier(host: str, port: int) -> str | None:
    """The first address of the carriers' range from here to `host`; None: none was seen, or `host`
    is in that range itself, as overlay networks use it.
    """
    if ":" in host or ip_address(host) in _SHARED:
        return None
    probes: list[socket.socket] = []
    try:
        for hops in range(1, MOST_HOPS + 1):
            probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            probes.append(probe)
            probe.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            with suppress(OSError):
                probe.connect((host, port))
                probe.send(b"")
        await trio.sleep(HOP_WAIT)
        path = [probes[0].getsockname()[0], *(_speaker(each) for each in probes)]
    finally:
        for probe in probes:
            probe.close()
    return next((each for each in path if each and ip_address(each) in _SHARED), None)


def _speaker(probe: socket.socket) -> str | None:
    """Who has told by ICMP that a packet of this socket goes no further."""
    try:
        _, ancillary, _, _ = probe.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return None
    for _, _, data in ancillary:
        if _ERROR.unpack_from(data)[1] == _FROM_ICMP:
            return socket.inet_ntoa(data[_ERROR.size + 4 : _ERROR.size + 8])
    return None


@attrs.define(eq=False)
class _Detour:
    """Between a member on this host and a switch: two sockets, of which one is used at a time."""

    inner: trio.socket.SocketType
    first: trio.socket.SocketType
    second: trio.socket.SocketType
    member: tuple[object, ...] | None = None  # its address, once it has sent
    silent: bool = False  # nothing leaves
    aside: bool = False  # control datagrams leave by the second socket, nothing else does
    passed: float = 0.0  # when something went through the first one last
    heard: float = 0.0  # when something came by the first one last
    heard_aside: float = 0.0

    async def outward(self) -> None:
        while True:
            data, self.member = await self.inner.recvfrom(65535)
            if self.silent or len(data) > _LONGEST:
                continue
            with suppress(OSError):  # it may be heard the next time
                if not self.aside:
                    await self.first.send(data)
                    self.passed = trio.current_time()
                elif data[:1] == bytes((_CONTROL,)):
                    await self.second.send(data)

    async def inward(self) -> None:
        while True:
            with suppress(OSError):
                data = await self.first.recv(65535)
                self.passed = self.heard = trio.current_time()
                if self.member is not None:
                    await self.inner.sendto(data, self.member)

    async def inward_aside(self) -> None:
        while True:
            with suppress(OSError):
                await self.second.recv(65535)
                self.heard_aside = trio.current_time()


@attrs.frozen
class Sighted:
    """What a session of its own has told: where the switch sees this host, how long a pause (s) a
    mapping has outlived, and how long a one not.
    """

    seen: str
    outlived: float | None = None
    forgotten: float | None = None


async def look(
    profile: Profile, place: Place, time: float, post_quantum: PostQuantum
) -> Sighted | None:
    """Have the switch look at this host, and for `time` seconds at the mapping of a NAT: the pauses
    grow, and then close in. None: an older switch, which does not look.

    The member of `profile` must not be connected: its session would be replaced.
    """
    until = trio.current_time() + time
    alive, gone = 0.0, None
    async with _open_detour(profile, place, post_quantum) as (reached, detour):
        seen = await _seen(reached)
        if seen is None or not time:
            return None if seen is None else Sighted(seen)
        await trio.sleep(SETTLE)
        while (
            pause := next_pause(alive, gone)
        ) and trio.current_time() + pause + ANSWER_WAIT < until:
            lives = await _outlives(pause, reached, detour)
            if lives is None:  # the path has failed, so nothing more can be told
                break
            alive, gone = (pause, gone) if lives else (alive, pause)
    known = alive or gone is not None
    return Sighted(seen, alive if known else None, gone)


async def _seen(reached: Reached) -> str | None:
    """Where the switch says that it sees this host."""
    said: list[ControlMessage] = []
    device = MemberDevice(
        reached.channel,
        name="switch",
        mtu=MAX_MTU,
        hears=TO_LOOKER,
        floods_end=False,
        on_control=said.append,
    )
    device.send_control(Look())
    with trio.move_on_after(ANSWER_WAIT):
        while not said:
            await device.wait_readable()
            with suppress(trio.WouldBlock):
                device.read_nowait(BATCH)
    return next((each.seen for each in said if isinstance(each, Sight)), None)


def next_pause(alive: float, gone: float | None) -> float | None:
    """The pause to try, after one that was outlived and one that was not; None: that is enough."""
    if gone is not None:
        return None if gone <= FIRST_PAUSE + CLOSE_ENOUGH * alive else (alive + gone) / 2
    return None if alive >= LONGEST_PAUSE else min(LONGEST_PAUSE, max(FIRST_PAUSE, 2 * alive))


@asynccontextmanager
async def _open_detour(
    profile: Profile, place: Place, post_quantum: PostQuantum
) -> AsyncIterator[tuple[Reached, _Detour]]:
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with (
        trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner,
        trio.socket.socket(family, socket.SOCK_DGRAM) as first,
        trio.socket.socket(family, socket.SOCK_DGRAM) as second,
    ):
        await inner.bind(("127.0.0.1", 0))
        await first.connect(place)
        await second.connect(place)
        detour = _Detour(inner, first, second)
        here = attrs.evolve(profile, servers=(HostPort(*inner.getsockname()),), https=())
        with single_error():
            async with trio.open_nursery() as nursery:
                for task in (detour.outward, detour.inward, detour.inward_aside):
                    nursery.start_soon(task)
                async with open_channel(
                    here,
                    None,
                    ResolvedAddresses(),
                    PathPolicy("udp", https=False),
                    patience=HANDSHAKE_PATIENCE,
                    resolved=trio.lowlevel.checkpoint,
                    post_quantum=post_quantum,
                ) as reached:
                    yield reached, detour
                nursery.cancel_scope.cancel()


async def _outlives(pause: float, reached: Reached, detour: _Detour) -> bool | None:
    """Whether the mapping of the first socket is there after a pause; None: nobody knows."""
    detour.silent = True
    latest = trio.current_time() + 2 * pause + SETTLE
    end = detour.passed + pause
    while trio.current_time() < end:
        await trio.sleep_until(end)
        end = detour.passed + pause  # the switch may have looked for an MTU
        if end > latest:
            return None
    detour.silent, detour.aside = False, True
    asked = trio.current_time()
    lives = await _hears(reached, detour, asked)
    shown = detour.heard_aside >= asked
    detour.aside = False
    back = await _hears(reached, detour, trio.current_time())  # which keeps the mapping, too
    if lives:
        return True
    return False if shown and back else None


async def _hears(reached: Reached, detour: _Detour, since: float) -> bool:
    """Ping, until something comes by the first socket."""
    with trio.move_on_after(ANSWER_WAIT):
        while detour.heard < since:
            reached.channel.measure()
            await trio.sleep(_LOOK)
        return True
    return False
