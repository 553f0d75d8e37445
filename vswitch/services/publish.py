"""Published services: what comes to the switch's host at a place goes on to a member's service.

    client ─▶ host's socket ─▶ gate ─▶ relay ─▶ socket of the LAN ─▶ port of the switch ─▶ member

The kernel's TCP ends on both sides, and the relay is that of `vswitch proxy`. A rule names its
member; where that is, is asked for each connection. One that is away is told apart from one that
refuses, and the client sees a reset in both cases. When the member has another address, or has been
away for `GRACE`, what was open to it is reset: it would only hang.

Invariants: a fault in one connection costs that one, a fault in a listener its rule, and neither
the switch. A rule that is said again keeps its listening sockets and what is open; its limits and
its target hold for what comes, its idle times for what is open, too. What `unpublish` takes away is
reset. Without a rule there is no network on the LAN for them, and no port.

Error contract: `ConfigError` for rules that exclude each other, `NotFound` for one that is not
there, `VswitchError` for a place that cannot be listened at and for a LAN that cannot be had.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from ipaddress import IPv4Network
from typing import Final

import trio
from attrs import define, field, frozen

from vswitch.config.places import Listen, Place
from vswitch.errors import NotFound, Problem, VswitchError
from vswitch.proxy.counts import Counts
from vswitch.proxy.listeners import Limits, carry, serve_datagrams, serve_streams
from vswitch.proxy.names import no_dns
from vswitch.proxy.relay import reset
from vswitch.proxy.sides import CannotConnect, Side, host_names, host_socket
from vswitch.registry.rules import PUBLISH_PORT
from vswitch.runtime import single_error
from vswitch.services.client_gate import ClientGate
from vswitch.services.lan_sockets import ServeNetwork, Standby
from vswitch.services.proxy_protocol import header
from vswitch.services.publish_rules import PublishRule, check_room
from vswitch.switch.switch import Switch

FOLLOW: Final = 1.0  # seconds between two looks where the members are
GRACE: Final = 10.0  # seconds that a member may be away, such as to start its program again


@frozen
class Whereabouts:
    """Where a host is that a rule names. Without an address, `why` is the reason, which is counted:
    `no_name`, `away` or `no_address`.
    """

    name: str  # what it is called now, "" for nobody
    address: str | None = None
    why: str = ""


Find = Callable[[str], Whereabouts]


@define(eq=False)
class Published:
    """A rule in force."""

    rule: PublishRule
    live: bool  # said by `vswitch publish`: no file has it
    gate: ClientGate
    limits: Limits
    counts: Counts
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    toward: Whereabouts | None = None  # as it was last seen
    ended: str | None = None  # by a fault, under this reference in the log
    away: dict[str, float] = field(factory=dict)  # hosts, since when, on the clock of the switch
    gone: trio.Event = field(factory=trio.Event)  # it listens no more, and nothing is open
    # What is open leads to a host, perhaps of the rule as it was before, at an address.
    _open: dict[trio.CancelScope, tuple[str, str]] = field(factory=dict)

    def change(self, rule: PublishRule) -> None:
        """Other limits, and perhaps another target, at the same place."""
        moved, self.rule, self.gate.limits = rule.to != self.rule.to, rule, rule
        self.limits.idle.change(rule.idle)
        self.limits.udp_idle.change(rule.udp_idle)
        self.counts.target, self.toward = str(rule.to), None
        if moved and rule.listen.udp:  # a client of UDP may go on for ever
            for host in self.hosts:
                self.end(host, "moved")

    @property
    def hosts(self) -> set[str]:
        """That of the rule, and those that something is open to."""
        return {self.rule.to.host, *(host for host, _ in self._open.values())}

    @contextmanager
    def towards(self, host: str, address: str) -> Iterator[None]:
        """Around what is open to a host, and ends when its address leads to nobody any more."""
        with trio.CancelScope() as scope:
            self._open[scope] = host, address
            try:
                yield
            finally:
                del self._open[scope]

    def end(self, host: str, why: str, keep: str | None = None) -> None:
        """Reset what is open to a host, but for that to one address."""
        for scope, (whose, address) in list(self._open.items()):
            if whose == host and address != keep and not scope.cancel_called:
                self.counts.failed[why] += 1
                scope.cancel()


class Publisher:
    """All rules of one LAN. `find` tells where a member is; it neither waits nor raises."""

    def __init__(
        self, switch: Switch, serve: ServeNetwork, find: Find, subnet: IPv4Network
    ) -> None:
        """`serve` has the network of the LAN when it is needed."""
        self.subnet = subnet  # of the LAN
        self._switch = switch
        self._lan = Standby(serve)
        self._side = Side(self._lan.socket, no_dns)
        self._find = find
        self._rules: dict[Listen, Published] = {}
        self._some = trio.Event()  # there is a rule to be followed
        self._changing = trio.Lock()
        self._nursery: trio.Nursery | None = None  # while it runs

    @property
    def rules(self) -> tuple[Published, ...]:
        """Those in force, in the order in which they came."""
        return tuple(self._rules.values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = self._lan.nursery = nursery
            task_status.started()
            try:
                while True:
                    if not self._rules:
                        self._some = trio.Event()
                        await self._some.wait()
                    await trio.sleep(FOLLOW)
                    for each in self.rules:
                        self._follow(each)
            finally:
                self._nursery = None
                self._rules.clear()

    async def apply(self, rules: Sequence[PublishRule], live: Container[Listen] = ()) -> None:
        """Have exactly these. What is there stays. `live`: where no file says it."""
        await self.release(rules)
        for rule in rules:
            known, is_live = self._rules.get(rule.listen), rule.listen in live
            if known is not None and known.rule == rule and known.ended is None:
                known.live = is_live
            else:
                await self.publish(rule, live=is_live)

    async def release(self, rules: Sequence[PublishRule]) -> None:
        """Listen no more where none of these does."""
        wanted = {rule.listen for rule in rules}
        for each in self.rules:
            if each.rule.listen not in wanted:
                await self.unpublish(each.rule.listen, leave=not rules)

    async def publish(self, rule: PublishRule, *, live: bool = True) -> Published:
        """Have this rule, in place of one at the same place."""
        async with self._changing, self._left_at_the_end():
            others = [each.rule for each in self.rules if each.rule.listen != rule.listen]
            check_room(rule, others, str(rule.listen), self.subnet)
            known = self._rules.get(rule.listen)
            if known is None or known.ended is not None:
                known = await self._begin(rule, live)
            else:
                known.change(rule)
                known.live = live
        self._follow(known)
        self._note("published", listen=str(rule.listen), to=str(rule.to))
        return known

    async def unpublish(self, listen: Listen, *, leave: bool = True) -> Published:
        """Listen there no more, and reset what is open. `leave` the LAN after the last one."""
        async with self._changing, self._left_at_the_end(leave):
            known = self._rules.pop(listen, None)
            if known is None:
                said = f"nothing is published at {listen}: see `vswitch publish`"
                raise NotFound(said).of(Problem.NOT_PUBLISHED, listen=listen)
            known.scope.cancel()
            with trio.CancelScope(shield=True):  # or who is next finds the place in use
                await known.gone.wait()
        self._note("unpublished", listen=str(listen), to=str(known.rule.to))
        return known

    @asynccontextmanager
    async def _left_at_the_end(self, leave: bool = True) -> AsyncIterator[None]:
        """Without a rule at the end of the context there is no port."""
        try:
            yield
        finally:
            if leave and not self._rules:
                await self._lan.close()

    async def _begin(self, rule: PublishRule, live: bool) -> Published:
        if (nursery := self._nursery) is None:
            raise VswitchError("publishing has ended by a fault: see `vswitch status`")
        await self._lan.open()
        gate = ClientGate(rule, self._switch.now)
        counts = Counts("publish", str(rule.listen), str(rule.to))
        published = Published(
            rule, live, gate, Limits(gate, gate, rule.idle, rule.udp_idle), counts
        )
        with ExitStack() as stack:
            host, sockets = Side(host_socket, host_names), {}
            for port in rule.listen.ports:
                place = Place(rule.listen.host, port, rule.listen.udp)
                sockets[port] = stack.enter_context(await host.listen(place))
            nursery.start_soon(self._serve, published, sockets, stack.pop_all())
        self._rules[rule.listen] = published
        self._some.set()
        return published

    async def _serve(
        self, published: Published, sockets: dict[int, trio.socket.SocketType], stack: ExitStack
    ) -> None:
        limits, counts = published.limits, published.counts
        try:
            with stack, published.scope, single_error():
                async with trio.open_nursery() as nursery:
                    for port, sock in sockets.items():
                        if published.rule.listen.udp:
                            dial = partial(self._datagrams, published, port)
                            nursery.start_soon(serve_datagrams, sock, dial, limits, counts)
                        else:
                            handle = partial(self._stream, published, port)
                            nursery.start_soon(serve_streams, sock, handle, limits, counts)
        except Exception as error:
            what = f"publish {published.rule.listen}"
            fault = self._switch.faults.note(what, PUBLISH_PORT, error, self._switch.now())
            published.ended = fault.reference
        finally:
            published.gone.set()

    async def _stream(self, published: Published, port: int, stream: trio.SocketStream) -> None:
        rule, early = published.rule, b""
        try:
            _watch_over(stream.socket)
            if rule.proxy_protocol:
                early = header(stream.socket.getpeername(), stream.socket.getsockname())
            address = self._address(rule)
        except OSError:
            raise CannotConnect("reset") from None  # before it could be asked
        except BaseException:
            reset(stream)
            raise
        with published.towards(rule.to.host, address):
            dial = partial(self._connect, Place(address, rule.target_port(port)))
            await carry(stream, dial, published.limits, published.counts, early)

    async def _connect(self, place: Place) -> trio.SocketStream:
        stream = await self._side.connect(place)
        _watch_over(stream.socket)
        return stream

    @asynccontextmanager
    async def _datagrams(
        self, published: Published, port: int
    ) -> AsyncIterator[trio.socket.SocketType]:
        rule = published.rule
        address = self._address(rule)
        with published.towards(rule.to.host, address):
            place = Place(address, rule.target_port(port), udp=True)
            async with self._side.connect_datagrams(place) as sock:
                yield sock

    def _address(self, rule: PublishRule) -> str:
        found = self._find(rule.to.host)
        if found.address is None:
            raise CannotConnect(found.why)
        return found.address

    def _follow(self, published: Published) -> None:
        """Look where its member is, and end what leads nowhere any more."""
        hosts, now = published.hosts, self._switch.now()
        whereabouts = {host: self._find(host) for host in hosts}
        found = whereabouts[published.rule.to.host]
        if found != published.toward:
            published.toward = found
            facts = {"name": found.name, "address": found.address or found.why}
            self._note("publish-target", listen=str(published.rule.listen), **facts)
        published.away = {
            host: published.away.get(host, now)
            for host, found in whereabouts.items()
            if found.address is None
        }
        for host, found in whereabouts.items():
            if found.address is not None:
                published.end(host, "moved", keep=found.address)
            elif now - published.away[host] >= GRACE:
                published.end(host, "away")

    def _note(self, kind: str, **facts: str) -> None:
        self._switch.events.add(kind, PUBLISH_PORT, now=self._switch.now(), **facts)


def _watch_over(sock: trio.socket.SocketType) -> None:
    """Notice within a minute that the peer is gone without a word, whether there is something to
    send or not: as long as the session of a silent member lasts.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 20),  # seconds
        (socket.TCP_KEEPINTVL, 10),
        (socket.TCP_KEEPCNT, 4),
        (socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
