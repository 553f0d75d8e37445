"""How a session becomes a port: hello, enrolment, address, welcome.

    channel ─▶ hello ─▶ registry (in a thread) ─▶ port attached ─▶ welcome ─▶ frames

Which keys may shake hands at all is what `authority.py` says; `Reception.receive` is the
handler of each channel that did. A member that is refused is told why, in words and with a code,
before its session ends. The member's older port, if it has one, goes first.

A member that has come by a key of the switch that is not its newest is told the newest, and answers
when it goes by that. By which key each came last is noted.

Error contract: nothing that a member does is raised. Registry errors refuse that member, unless
they only concern when it was last seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network

import trio
from attrs import evolve

from transport import Channel, Credential, CredentialKind, PublicKey
from vswitch.addresses import ipv6_from_mac, mac_from_key
from vswitch.clocks import uptime
from vswitch.errors import BadRecord, NotFound, RefusedError, VswitchError
from vswitch.frames.ethernet import parse_mac
from vswitch.logs import clean, event
from vswitch.members.device import MemberDevice
from vswitch.members.lane_choice import agreed
from vswitch.members.protocol import (
    FROM_MEMBER,
    MAX_TEXT,
    Bye,
    ByeCode,
    ControlMessage,
    Hello,
    Leave,
    Look,
    Moved,
    Notice,
    Rekey,
    Sight,
    Update,
    Welcome,
    Who,
)
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, Grace, Member, check_known, refusal
from vswitch.serving.connected_member import ConnectedMember, networks_of
from vswitch.serving.directory import Directory
from vswitch.serving.gateways import Gateways
from vswitch.serving.line_limit import LineLimit
from vswitch.switch.port import Bound, Port
from vswitch.switch.port_lifecycle import READ_BATCH
from vswitch.switch.switch import Switch
from vswitch.version import SOFTWARE

LOOK_INTERVAL = 1.0  # seconds between two looks whether the registry has changed
HELLO_TIMEOUT = 10.0  # seconds for a session to say who it is
LOOK_TIME = 180.0  # seconds of a session that only looks at the way
MAX_LOOKING = 8  # of them at once, in a network

log = logging.getLogger(__name__)


class Reception:
    """Takes members in."""

    def __init__(
        self, registry: Registry, switch: Switch, subnet: IPv4Network, prefix: IPv6Network
    ) -> None:
        """`prefix` is where members that need one have an IPv6 address."""
        # What members are told of the switch's name server; nothing where there is none.
        self.names: tuple[str, ...] = ()
        self.domain = ""
        # As `Registry.enrol`: makes a key a member, if that is right.
        self.enrol = registry.enrol
        # Told of a port behind which there is something else than before.
        self.rebound: Callable[[Port], None] = lambda _: None
        self.connected: dict[bytes, ConnectedMember] = {}  # by key
        self.directory = Directory(self.connected, prefix)
        self.gateways = Gateways(self.connected, lambda name: self.directory.separated(name))
        self._registry = registry
        self._switch = switch
        self._subnet = subnet
        self._prefix = prefix
        self._barred: set[bytes] = set()  # keys that could not be written down as revoked
        self._lines = LineLimit()
        # Sessions that look at their way alone, by key or invite.
        self._looking: dict[bytes, trio.CancelScope] = {}
        self._look = trio.Event()  # at the registry, before its time
        self._leaving: list[bytes] = []  # keys of members
        self._moved: dict[bytes, bytes] = {}  # the same, and the key of the switch that they go by
        self._switch_key: PublicKey | None = None  # the newest; None: nobody has said it
        self._grace: Grace | None = None  # for the one before

    async def receive(self, channel: Channel) -> None:
        """From the handshake to the end of the session."""
        said: list[ControlMessage] = []
        device = MemberDevice(
            channel,
            name=channel.remote,
            mtu=self._switch.mtu,
            hears=FROM_MEMBER,
            on_control=said.append,
        )
        try:
            first, early = await _first(device, said)
            if isinstance(first, Hello):
                await self._admit(channel, device, first, early)
            else:
                await self._show(channel, device)
        except trio.Cancelled:
            device.close(ByeCode.SHUTDOWN, "the switch is stopping")
            raise
        except EnrolRefused as refusal:
            await self._refuse(channel, device, refusal.code, str(refusal))
        except RefusedError as refusal:  # all ports are taken
            await self._refuse(channel, device, ByeCode.FULL, str(refusal))
        except VswitchError as error:
            # What has failed is for the log alone: it names files of this host.
            self._event(channel, "enrolment-failed", logging.ERROR, via=channel.remote, error=error)
            await self._refuse(channel, device, ByeCode.SERVER_ERROR, "the switch has failed")
        except BadRecord as error:
            device.close(ByeCode.PROTOCOL, str(error))
            self._event(channel, "member-lost", logging.WARNING, via=channel.remote, reason=error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._event(channel, "member-lost", via=channel.remote, reason=error)
        except Exception:
            # A mistake of ours. It costs this member its session, and nobody else anything.
            log.exception("reception-failed")
            device.close(ByeCode.SERVER_ERROR, "the switch has failed; its log says why")

    async def _show(self, channel: Channel, device: MemberDevice) -> None:
        """Somebody looks at the way alone: the session is kept for a while, and does nothing. Of a
        member and of an invite, which any number of keys may have, one is: the latest.
        """
        credential = channel.credential
        invited = credential.kind is CredentialKind.TOKEN
        who = credential.id if invited else channel.peer.raw
        older = self._looking.get(who)
        if older is not None:
            older.cancel()
        elif len(self._looking) >= MAX_LOOKING:
            device.close(ByeCode.FULL, "others look at their way now")
            return
        device.hears = frozenset()
        device.send_control(Sight(channel.remote))
        with trio.move_on_after(LOOK_TIME) as time_to_look:
            self._looking[who] = time_to_look
            try:
                while True:
                    await device.wait_readable()
                    with suppress(trio.WouldBlock):
                        if device.read_nowait(READ_BATCH):
                            raise BadRecord("frames of one that only looks")
            finally:
                if self._looking.get(who) is time_to_look:
                    del self._looking[who]
        device.close(ByeCode.NORMAL, "that was long enough")

    async def _admit(
        self, channel: Channel, device: MemberDevice, hello: Hello, early: list[bytes]
    ) -> None:
        key = channel.peer.raw
        member, address = await trio.to_thread.run_sync(self._enrol, key, channel.credential, hello)
        # Meanwhile it may have been revoked, or have gone, or have connected again. From here to
        # the entry in `connected`, where `check_revoked` finds it, nothing waits.
        self._check_welcome(key, channel.identity)
        device.write_nowait([])
        own_mac = mac_from_key(key)
        given = None if address is None else address.partition("/")[0]
        given6 = ipv6_from_mac(self._prefix, own_mac)
        self.directory.enter(member, given)
        older = self.connected.get(key)
        if older is not None:
            older.why = "replaced"
            self._switch.detach(older.port)
        device.admit(member.name, agreed(hello.lane), superframes=hello.offload)
        mac = parse_mac(hello.mac)
        offered = tuple(map(ip_network, hello.advertise))
        bound = Bound(
            mac,
            given,
            vouched=mac == own_mac,
            address6=str(given6),
            networks=tuple(map(str, networks_of(member, offered, address))),
            lan=(str(self._subnet), str(self._prefix)),
        )
        attach, name = self._switch.attach, member.name
        port = attach(device, name=name, bridge=hello.bridge, bound=bound)
        device.on_blocked = port.flush_soon
        address6 = f"{given6}/{self._prefix.prefixlen}"
        connected = ConnectedMember(
            member, address, channel, device, port, uptime(), address6, offered
        )
        connected.switch_key = channel.identity
        self.connected[key] = connected
        connected.told = self.gateways.seen_by(name)
        connected.told_names = self.names, self.domain
        device.on_control = partial(self._hear, connected)
        try:
            device.send_control(
                Welcome(
                    name=member.name,
                    port=port.number,
                    address=address,
                    network=str(self._subnet),
                    names=self.names,
                    domain=self.domain,
                    mtu=self._switch.mtu,
                    offload=hello.offload,
                    software=SOFTWARE,
                    lane=device.lane_mode,
                    gateways=connected.told,
                    address6=address6,
                    seen=channel.remote,
                )
            )
            self._tell_key(connected)
            self._ask_for_approval(connected)
            self._event(
                channel,
                "member-up",
                member=member.name,
                key=channel.peer.fingerprint(),
                port=port.number,
                via=channel.remote,
                address=address,
                suite=channel.statistics().suite,
                post_quantum="yes" if channel.statistics().hybrid else "no",
                lane=device.lane_mode,
            )
            self._note("member-up", member.name, via=channel.remote, address=address or "none")
            self._switch.ingress(port, early)
            # Only now, as it waits for the disk: a thousand members may return at once.
            came_by = connected.switch_key
            await trio.to_thread.run_sync(self._seen, key, came_by)
            if connected.switch_key != came_by:  # it has moved meanwhile, which may be noted
                await trio.to_thread.run_sync(self._seen, key, connected.switch_key)
            await port.wait_detached()
        finally:
            if self.connected.get(key) is connected:
                del self.connected[key]
                self.gateways.changed()
            reason = port.error or connected.why
            self._event(channel, "member-down", member=member.name, port=port.number, reason=reason)
            self._note("member-down", member.name, reason=str(reason or "stopping"))
        await trio.to_thread.run_sync(self._seen, key)

    def _ask_for_approval(self, connected: ConnectedMember) -> None:
        """Of networks that nobody uses before, by the operator; and tell others of the rest."""
        networks, name = connected.networks, connected.member.name
        if networks:
            self.gateways.changed()
        if waiting := [str(each) for each in connected.offered if each not in networks]:
            said = ",".join(waiting)
            approve = f"vswitch member set {name} routes={said}"
            self._event(connected.channel, "routes-offered", member=name, routes=said, see=approve)
            self._note("routes-offered", name, routes=said)
            text = f"nobody uses what this switch's operator has not approved: {said}"
            connected.device.send_control(Notice(text[:MAX_TEXT]))

    def _enrol(self, key: bytes, credential: Credential, hello: Hello) -> tuple[Member, str | None]:
        """In a thread: who this is, and which address it gets."""
        registry, now = self._registry, time.time()
        if credential.kind is CredentialKind.TOKEN:
            member = self.enrol(key, hello.name, credential.id, now)
            trio.from_thread.run_sync(self._note, "member-enrolled", member.name)
        else:
            known = registry.look_up(key)
            if known is None:  # revoked and forgotten since the handshake
                raise EnrolRefused(ByeCode.UNKNOWN)
            member = check_known(known, hello.name)
        address = registry.lease(key, hello.address, self._subnet)
        return member, address

    def _seen(self, key: bytes, by: PublicKey | None = None) -> None:
        """In a thread: note the time, and by which key of the switch it has come. A full disk shuts
        no known member out.
        """
        try:
            self._registry.touch([key], time.time(), None if by is None else by.raw)
        except VswitchError as error:
            event(log, "registry-failed", logging.ERROR, error=error)

    def _check_welcome(self, key: bytes, asked: PublicKey | None) -> None:
        known = self._registry.look_up(key)
        if known is None:
            raise EnrolRefused(ByeCode.UNKNOWN)
        check_known(known, "")
        if key in self._barred:
            raise EnrolRefused(ByeCode.SERVER_ERROR, "the switch has failed")
        old = None if self._grace is None else self._grace.old
        if self._switch_key is not None and asked not in (self._switch_key, old):
            raise EnrolRefused(ByeCode.REKEYED)  # since the handshake

    async def _refuse(
        self, channel: Channel, device: MemberDevice, code: ByeCode, reason: str
    ) -> None:
        self._event(
            channel,
            "member-refused",
            logging.WARNING,
            key=channel.peer.fingerprint(),
            via=channel.remote,
            code=code.name.lower(),
            reason=reason,
        )
        self._note("member-refused", code=code.name.lower(), via=channel.remote, reason=reason)
        try:
            plain = clean(reason, " ")
            device.send_control(Bye(code, plain[:MAX_TEXT]))
            await channel.aclose(code, plain)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # gone before it could be told

    def _event(
        self, channel: Channel, kind: str, level: int = logging.INFO, **fields: object
    ) -> None:
        """Log what has happened to a key, unless it happens to that one all the time."""
        suppressed = self._lines.allow(channel.peer.raw, trio.current_time())
        if suppressed is not None:
            fields["suppressed"] = suppressed or None
            event(log, kind, level, None, **fields)

    def _note(self, kind: str, name: str = "", **facts: str) -> None:
        """For `vswitch events`."""
        self._switch.events.add(kind, name, now=trio.current_time(), **facts)

    def _hear(self, connected: ConnectedMember, message: ControlMessage) -> None:
        """What a member says after its hello."""
        if isinstance(message, Leave) and not connected.leaving:
            connected.leaving = True
            self._leaving.append(connected.channel.peer.raw)
            self._look.set()
        elif isinstance(message, Moved):
            key = self._switch_key
            if key is not None and message.key == key.text() and connected.switch_key != key:
                connected.switch_key = key
                self._moved[connected.channel.peer.raw] = key.raw
                self._look.set()
        elif isinstance(message, Who) and connected.questions.allow(trio.current_time(), 1):
            told = self.directory.peers(connected.member.name, message.after)
            connected.device.send_control(told)

    async def watch(self) -> None:
        """Forget who wants to leave, and unplug who is not welcome any more, also where nobody
        could tell this program of it; until cancelled.
        """
        seen = None
        while True:
            with trio.move_on_after(LOOK_INTERVAL):
                await self._look.wait()
            asked, self._look = self._look.is_set(), trio.Event()
            try:
                while self._leaving:  # each until it is written down
                    await trio.to_thread.run_sync(self._registry.leave, self._leaving[0])
                    del self._leaving[0]
                moved = self._moved.copy()
                for by in set(moved.values()):
                    keys = [key for key, now_by in moved.items() if now_by == by]
                    await trio.to_thread.run_sync(self._registry.touch, keys, time.time(), by)
                self._moved = dict(self._moved.items() - moved.items())
                version = self._registry.version()
                if asked or version != seen:
                    self.check_revoked()
                    seen = version
            except VswitchError as error:
                if seen != -1:  # once, not each second
                    event(log, "registry-failed", logging.ERROR, error=error)
                seen = -1

    def look_soon(self, key: bytes) -> None:
        """This key was found revoked, as it wanted new keys: its session must not go on."""
        if key in self.connected:
            self._look.set()

    def bar(self, name: str) -> list[str]:
        """Keep a member out until this switch ends or it is revoked: that could not be written
        down. The names of the unplugged.
        """
        member = self._registry.named(name)
        if member is None:
            raise NotFound(f"no member is named {name}: see `vswitch members`")
        self._barred.add(member.key)
        return self.check_revoked()

    def dismiss(self, code: ByeCode, said: str) -> None:
        """Unplug everybody, and tell them why."""
        for connected in list(self.connected.values()):
            connected.why = said
            connected.device.close(code, said)
            self._switch.detach(connected.port)

    def go_by_key(self, key: PublicKey, grace: Grace | None) -> None:
        """The switch has this key now, and during the grace the one before, too. Who goes by that
        one is told; without a grace it is unplugged.
        """
        self._switch_key, self._grace = key, grace
        for connected in list(self.connected.values()):
            self._tell_key(connected)

    def _tell_key(self, connected: ConnectedMember) -> None:
        key, grace = self._switch_key, self._grace
        if key is None or connected.switch_key == key:
            return
        if grace is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.WouldBlock):
                until = max(0, int(time.time() + grace.left))
                connected.device.send_control(Rekey(key.text(), until))
            return
        connected.why = "rekeyed"
        connected.device.close(ByeCode.REKEYED, refusal(ByeCode.REKEYED).sentence)
        self._switch.detach(connected.port)

    def check_revoked(self) -> list[str]:
        """Unplug every member whose key is not welcome any more, or that has another name now, and
        keep the MACs and addresses of those that are; the names of the unplugged.
        """
        gone = []
        for key, connected in list(self.connected.items()):
            name, member = connected.member.name, self._registry.look_up(key)
            if member is None and connected.leaving:
                why, code, said = "left", ByeCode.NORMAL, f"{name} is forgotten"
            elif member is None or member.revoked is not None:
                why, code, said = "revoked", ByeCode.REVOKED, f"{name} was revoked"
            elif member.disabled is not None:
                why, code, said = "disabled", ByeCode.DISABLED, f"{name} is disabled at the switch"
            elif key in self._barred:  # not for good: its host goes on asking
                why, code, said = "revoked", ByeCode.SERVER_ERROR, "the switch has failed"
            elif member.name != name:  # it comes again at once
                why, code, said = "renamed", ByeCode.SHUTDOWN, f"{name} is {member.name} now"
            else:
                self._keep_routes(connected, member)
                continue
            connected.why = why
            connected.device.close(code, said)
            self._switch.detach(connected.port)
            gone.append(name)
        self.directory.update(self._registry.current())
        return gone

    def tell_names(self) -> None:
        """Members hear of another name server or domain than they know."""
        for connected in self.connected.values():
            if connected.told_names != (self.names, self.domain):
                connected.told_names = self.names, self.domain
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    update = Update(names=self.names, domain=self.domain)
                    connected.device.send_control(update)

    def _keep_routes(self, connected: ConnectedMember, member: Member) -> None:
        """Go by what the operator approves of it now."""
        before, connected.member = connected.networks, member
        networks, port = connected.networks, connected.port
        if networks == before or port.bound is None:
            return
        port.bound = evolve(port.bound, networks=tuple(map(str, networks)))
        self.rebound(port)
        self.gateways.changed()
        said = ",".join(map(str, networks)) or "none"
        self._event(connected.channel, "routes-approved", member=member.name, routes=said)
        self._note("routes-approved", member.name, routes=said)


async def _first(
    device: MemberDevice, said: list[ControlMessage]
) -> tuple[Hello | Look, list[bytes]]:
    """The first thing that a member says, and the frames that came along behind it."""
    frames: list[bytes] = []
    with trio.move_on_after(HELLO_TIMEOUT):
        while not said:
            await device.wait_readable()
            try:
                frames = device.read_nowait(READ_BATCH)
            except trio.WouldBlock:
                continue
            if not said:
                raise BadRecord("frames before hello")
    if not said:
        raise BadRecord("no hello in time")
    if not isinstance(said[0], Hello | Look):
        raise BadRecord("another message before hello")
    return said[0], frames
