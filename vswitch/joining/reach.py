"""From a profile to a channel: resolve, bind, shake hands; and how the session finds another path.

By UDP, or by a pipe over HTTPS, as `paths.py` says.

Error contract: `RefusedError` (with the code) for a definite no, `TimedOut` for silence,
`NotReachable` when the switch is full, `Unreachable` when there is none to it just now,
`NoCommonHandshake` when one side requires post-quantum handshakes and the other makes none,
`ConfigError` for a `--bind` that cannot be.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import zip_longest
from math import inf
from typing import Final

import trio

from transport import (
    Address,
    Channel,
    Credential,
    CredentialKind,
    Endpoint,
    HandshakeRefused,
    HandshakeTimeout,
    Peer,
    PeerUnreachable,
    PostQuantum,
    Result,
    UdpSocket,
    open_endpoint,
    open_udp,
    post_quantum_missing,
)
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, NotReachable, PrivilegeError, TimedOut
from vswitch.joining.paths import ASK_FOR, PathPolicy
from vswitch.joining.pipes import OpenPipes, RunPipe, open_pipes
from vswitch.joining.profiles import Profile
from vswitch.members.protocol import ByeCode
from vswitch.registry.rules import EnrolRefused, refusal
from vswitch.resolver import resolve
from vswitch.runtime import single_error

# Seconds for a name server. One that does not answer must not keep us from a switch that most
# likely is where it was.
RESOLVE_PATIENCE: Final = 2.0
SEEK_INTERVAL: Final = 2.0  # between look-ups for a switch that is silent
LOOK_INTERVAL: Final = 1.0  # between two looks at which path the session is on

# What the transport calls it in an answer to a handshake.
_CODES = {
    Result.REVOKED: ByeCode.REVOKED,
    Result.CREDENTIAL_USED: ByeCode.INVITE_USED,
    Result.CREDENTIAL_EXPIRED: ByeCode.INVITE_EXPIRED,
    Result.FULL: ByeCode.FULL,
}


class Unreachable(NotReachable):
    """This host cannot reach the switch just now: no name server, no route, no interface."""


class NoCommonHandshake(NotReachable):
    """One side requires post-quantum handshakes, and the other does not make them."""


class ResolvedAddresses:
    """Where a switch has been found, for when the name servers are silent, and which of its
    addresses to try first.
    """

    def __init__(self) -> None:
        self._found: dict[HostPort, list[tuple[str, int]]] = {}  # of each place, the last known
        self._worked: tuple[str, int] | None = None

    async def look_up(self, places: Iterable[HostPort]) -> list[tuple[str, int]]:
        """All addresses of all places, asked for anew and at once, the first of each place before
        the second of any; `Unreachable` if there are none and never were.
        """
        reasons: dict[HostPort, str] = {}

        async def ask(place: HostPort) -> None:
            reasons[place] = f"no name server has answered within {RESOLVE_PATIENCE:g} s"
            try:
                self._found[place] = await resolve(place.host, place.port)
                reasons[place] = "it has no address"
            except OSError as error:
                reasons[place] = str(error.strerror or error)

        with trio.move_on_after(RESOLVE_PATIENCE):
            async with trio.open_nursery() as nursery:
                for place in places:
                    self._found.setdefault(place, [])  # in the order of the places
                    nursery.start_soon(ask, place)
        if not self.known:
            said = (f"cannot resolve {place.host}: {why}" for place, why in reasons.items())
            raise Unreachable("; ".join(said))
        return sorted(self.known, key=lambda each: each != self._worked)

    @property
    def known(self) -> list[tuple[str, int]]:
        """All addresses of the last look-up that had an answer, of each place."""
        turns = zip_longest(*self._found.values())
        return list(dict.fromkeys(each for turn in turns for each in turn if each is not None))

    @property
    def hosts(self) -> list[str]:
        """Where it has been found, without the ports."""
        return list(dict.fromkeys(host for host, _ in self.known))

    def found(self, address: tuple[str, int]) -> None:
        """This one has answered."""
        self._worked = address


class Reached:
    """A channel to a switch, and how that is found again when it falls silent."""

    def __init__(
        self,
        channel: Channel,
        find: Callable[[bool], Awaitable[list[Address]]],
        policy: PathPolicy,
        pipes: OpenPipes,
    ) -> None:
        """`find` gives the UDP addresses of the switch: those that are known, or looked up anew."""
        self.channel = channel
        self._find = find
        self._policy = policy
        self._pipes = pipes
        self._udp: list[Address] = []  # where the session is asked for
        self._piped: list[Address] = []  # the same

    async def follow(self) -> None:
        """While the switch is silent, ask for the session at every address that it had, at every
        one of a fresh look-up, and over HTTPS; whichever answers is where the session goes on. For
        ever.
        """
        asked = -inf
        while True:
            await self.channel.wait_silent()
            if trio.current_time() - asked > 2 * SEEK_INTERVAL:
                self._piped = []  # another silence
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_udp)
                nursery.start_soon(self._ask_pipe)
            asked = trio.current_time()
            await trio.sleep(SEEK_INTERVAL)

    async def _ask_udp(self) -> None:
        for fresh in (False, True):  # a name server may be silent as well
            with suppress(Unreachable):
                self._udp = await self._find(fresh)
                self.channel.seek([*self._piped, *self._udp])

    async def _ask_pipe(self) -> None:
        if self._policy.takes_https:
            with suppress(NotReachable):
                # One that is silent, or that was asked in vain, is not worth asking.
                but = [*self._piped, self.channel.address]
                self._piped = [await self._pipes.open(but=but)]
                self.channel.seek([*self._piped, *self._udp])

    async def prefer_udp(self) -> None:
        """While the session is on a pipe, ask by UDP now and then, and go there. For ever."""
        policy, channel = self._policy, self.channel
        while policy.takes_https:
            now = trio.current_time()
            if channel.path_kind == "udp":
                policy.on_udp(now)
            else:
                policy.on_https(now)
            if now >= policy.ask_at and not channel.silent:
                policy.asked(now)
                with suppress(Unreachable):
                    channel.seek(await self._find(False), elsewhere=True)
                    await trio.sleep(ASK_FOR)
                    if channel.path_kind != "udp" and not channel.silent:
                        channel.seek([], elsewhere=True)  # no more of this
            else:
                await trio.sleep(LOOK_INTERVAL)
        await trio.sleep_forever()


@asynccontextmanager
async def open_channel(
    profile: Profile,
    bind: str | None,
    addresses: ResolvedAddresses,
    policy: PathPolicy,
    run_pipe: RunPipe | None = None,
    *,
    patience: float,
    resolved: Callable[[], Awaitable[None]],
    post_quantum: PostQuantum,
) -> AsyncIterator[Reached]:
    """A channel to the profile's switch, from any of its addresses that answers.

    `bind`: the local address or interface to use; `policy`: which paths are asked; `run_pipe`: what
    carries the HTTPS path, where there is one; `patience`: seconds until `TimedOut`, or of each
    path where there are two; `resolved` is awaited once `addresses` are known, before the first of
    them is tried; `post_quantum`: whether handshakes are hybrid.
    """
    server, places = profile.where, profile.servers

    async def look(*, fresh: bool) -> dict[Address, tuple[str, int]]:
        if not policy.takes_udp:
            return {}
        known = addresses.known
        if fresh or not known:
            known = await addresses.look_up(places)
            await resolved()
        return _natives(sock, known, server, bind)

    async def find(fresh: bool) -> list[Address]:
        return list(await look(fresh=fresh))

    natives: dict[Address, tuple[str, int]] = {}
    sock = _open_socket(bind)
    try:
        natives = await look(fresh=True)
    except Unreachable:
        if not policy.takes_https:
            sock.close()
            raise
    except BaseException:
        sock.close()
        raise
    with single_error():
        async with (
            open_endpoint(sock, profile.private_key, post_quantum=post_quantum) as endpoint,
            open_pipes(endpoint, profile.https, run_pipe) as pipes,
        ):
            try:
                channel = await _connect(
                    endpoint, _peer(profile), list(natives), policy, pipes, patience
                )
            except HandshakeRefused as refused:
                if refused.result == Result.HYBRID:
                    raise NoCommonHandshake(_no_common_handshake(post_quantum)) from None
                code = _CODES[Result(refused.result)]
                if refusal(code).final:
                    raise EnrolRefused(code) from None
                raise NotReachable(refusal(code).sentence) from None
            except PeerUnreachable as unreachable:
                raise Unreachable(f"cannot reach {server}: {unreachable}{pipes.said}") from None
            except HandshakeTimeout as timeout:
                said = list(timeout.obstacles.values())
                if natives.keys() - timeout.obstacles.keys() or not natives:  # others say nothing
                    said.insert(
                        0,
                        "it is not running or not reachable there, it has another key, or it does "
                        "not know this member",
                    )
                raise TimedOut(f"no answer from {server}: {'; '.join(said)}{pipes.said}") from None
            except ValueError as error:
                raise ConfigError(f"the key of the switch cannot be right: {error}") from None
            if channel.address in natives:
                addresses.found(natives[channel.address])
            try:
                yield Reached(channel, find, policy, pipes)
            finally:
                channel.close(ByeCode.NORMAL, "the member has left")


def _no_common_handshake(post_quantum: PostQuantum) -> str:
    if post_quantum is PostQuantum.REQUIRE:
        return (
            "the switch does not make post-quantum handshakes, which --pq require asks for: it is "
            "older than this program, or was started with --pq off"
        )
    why = post_quantum_missing() or "this member was told --pq off"
    return f"the switch requires post-quantum handshakes, and {why}"


async def _connect(
    endpoint: Endpoint,
    peer: Peer,
    udp: list[Address],
    policy: PathPolicy,
    pipes: OpenPipes,
    patience: float,
) -> Channel:
    """By UDP; a pipe is opened beside it when it is time for that, or UDP is out of reach."""
    if not policy.takes_https:
        return await endpoint.connect(peer, udp, patience=patience)
    channel: Channel | None = None
    pipe: Address | None = None
    failure: HandshakeRefused | HandshakeTimeout | None = None
    hurry = trio.Event()
    async with trio.open_nursery() as nursery:

        async def beside() -> None:
            nonlocal pipe
            with trio.move_on_after(policy.https_after()):
                await hurry.wait()
            with suppress(NotReachable):
                pipe = await pipes.open()
                nursery.cancel_scope.cancel()

        nursery.start_soon(beside)
        if udp:
            try:
                channel = await endpoint.connect(peer, udp, patience=patience)
            except (HandshakeRefused, HandshakeTimeout) as error:
                failure = error
        if channel is not None or isinstance(failure, HandshakeRefused):
            nursery.cancel_scope.cancel()
        hurry.set()
    if channel is not None:
        return channel
    if pipe is not None and not isinstance(failure, HandshakeRefused):
        return await endpoint.connect(peer, [pipe, *udp], patience=patience)
    raise failure or Unreachable(f"cannot reach the switch{pipes.said}")


def _natives(
    sock: UdpSocket, found: list[tuple[str, int]], server: str, bind: str | None
) -> dict[Address, tuple[str, int]]:
    """Those of `found` that the socket can send to, as it writes them."""
    try:
        natives = {sock.to_native(*each): each for each in found if sock.can_reach(each[0])}
    except OSError as error:  # the interface after the % of a link-local address
        raise Unreachable(f"cannot reach {server}: {error.strerror or error}") from None
    if not natives:
        raise Unreachable(f"{server} has no address that {bind or 'this host'} can reach")
    return natives


def _peer(profile: Profile) -> Peer:
    if profile.invite is None:
        return Peer(profile.server_key)
    credential = Credential(CredentialKind.TOKEN, profile.invite.token_id)
    return Peer(profile.server_key, credential, profile.invite.psk)


def _open_socket(bind: str | None) -> UdpSocket:
    try:
        if bind is None:
            return open_udp()
        try:
            ipaddress.ip_address(bind.partition("%")[0])
        except ValueError:
            return open_udp(device=bind)
        return open_udp(bind)
    except PermissionError:
        raise PrivilegeError(
            f"binding to interface {bind} needs root or CAP_NET_RAW; an address works without"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.EINVAL):
            # Interfaces and addresses come and go, and this one may come back.
            raise Unreachable(f"--bind {bind}: {error.strerror}; see `ip address`") from None
        raise Unreachable(f"cannot open a UDP socket: {error.strerror}") from None
