"""How a session becomes a port: hello, enrolment, address, welcome.

    channel ─▶ hello ─▶ registry (in a thread) ─▶ port attached ─▶ welcome ─▶ frames

`Authorities` says to the transport which keys may shake hands at all; `Reception.receive` is the
handler of each channel that did. A member that is refused is told why, in words and with a code,
before its session ends. The member's older port, if it has one, goes first.

Error contract: nothing that a member does is raised. Registry errors refuse that member.
"""

from __future__ import annotations

import logging
import time
from ipaddress import IPv4Network

import trio
from attrs import define

from transport import (
    Channel,
    Credential,
    CredentialKind,
    Grant,
    PublicKey,
    Result,
)
from vswitch.core.control import Bye, ByeCode, ControlMessage, Hello, Welcome
from vswitch.errors import BadRecord, RefusedError, VswitchError
from vswitch.logs import event
from vswitch.membership import EnrolRefused, Member, check_known
from vswitch.ports.member import MemberDevice
from vswitch.registry import Registry
from vswitch.switch import Port, Switch
from vswitch.version import SOFTWARE

__all__ = ["Authorities", "Plugged", "Reception"]

HELLO_TIMEOUT = 10.0  # seconds for a session to say who it is

log = logging.getLogger(__name__)


class Authorities:
    """Which keys the transport may answer: members, and who holds an invite."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def look_up(self, peer: PublicKey, credential: Credential) -> Grant | None:
        """Point reads of the registry; None is silence."""
        try:
            member = self._registry.look_up(peer.raw)
            if credential.kind is CredentialKind.TOKEN:
                return self._with_token(peer, credential, member)
        except VswitchError as error:
            event(log, "registry-failed", logging.ERROR, error=error)
            return None
        if member is None:
            return None
        return Grant(result=Result.OK if member.revoked is None else Result.REVOKED)

    def _with_token(
        self, peer: PublicKey, credential: Credential, member: Member | None
    ) -> Grant | None:
        invite = self._registry.invite(credential.id)
        if invite is None:
            return None
        result = Result.OK
        if member is not None and member.revoked is not None:
            result = Result.REVOKED
        elif invite.used is not None and invite.used_by != peer.raw:
            result = Result.CREDENTIAL_USED
        elif invite.used is None and time.time() >= invite.expires:
            result = Result.CREDENTIAL_EXPIRED
        return Grant(invite.psk, result)


@define(eq=False)
class Plugged:
    """A member that is connected."""

    member: Member
    address: str | None  # CIDR form
    channel: Channel
    device: MemberDevice
    port: Port
    since: float  # wall clock


class Reception:
    """Takes members in."""

    def __init__(self, registry: Registry, switch: Switch, subnet: IPv4Network) -> None:
        self.plugged: dict[bytes, Plugged] = {}  # by key
        self._registry = registry
        self._switch = switch
        self._subnet = subnet

    async def receive(self, channel: Channel) -> None:
        """From the handshake to the end of the session."""
        said: list[ControlMessage] = []
        device = MemberDevice(
            channel,
            name=channel.remote,
            mtu=self._switch.mtu,
            on_control=said.append,
        )
        try:
            hello = await _hello(device, said)
            if hello is None:
                device.close(ByeCode.PROTOCOL, "no hello in time")
                return
            await self._admit(channel, device, hello)
        except trio.Cancelled:
            device.close(ByeCode.SHUTDOWN, "the switch is stopping")
            raise
        except EnrolRefused as refusal:
            await self._refuse(channel, device, refusal.code, str(refusal))
        except RefusedError as refusal:  # all ports are taken
            await self._refuse(channel, device, ByeCode.FULL, str(refusal))
        except VswitchError as error:
            event(log, "enrolment-failed", logging.ERROR, via=channel.remote, error=error)
            await self._refuse(channel, device, ByeCode.SERVER_ERROR, str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError, BadRecord) as error:
            event(log, "member-lost", via=channel.remote, reason=error)

    async def _admit(self, channel: Channel, device: MemberDevice, hello: Hello) -> None:
        key = channel.peer.raw
        member, address = await trio.to_thread.run_sync(self._enrol, key, channel.credential, hello)
        device.name = member.name
        device.on_control = _heard
        older = self.plugged.get(key)
        if older is not None:
            self._switch.detach(older.port)
        port = self._switch.attach(device, name=member.name)
        device.on_blocked = port.flush_soon
        plugged = Plugged(member, address, channel, device, port, time.time())
        self.plugged[key] = plugged
        device.send_control(
            Welcome(
                name=member.name,
                port=port.number,
                address=address,
                network=str(self._subnet),
                mtu=self._switch.mtu,
                software=SOFTWARE,
            )
        )
        event(
            log,
            "member-up",
            member=member.name,
            key=channel.peer.fingerprint(),
            port=port.number,
            via=channel.remote,
            address=address,
            suite=channel.statistics().suite,
        )
        try:
            await port.wait_detached()
        finally:
            if self.plugged.get(key) is plugged:
                del self.plugged[key]
            event(
                log,
                "member-down",
                member=member.name,
                port=port.number,
                reason=port.error,
            )
        await trio.to_thread.run_sync(self._registry.touch, [key], time.time())

    def _enrol(self, key: bytes, credential: Credential, hello: Hello) -> tuple[Member, str | None]:
        """In a thread: who this is, and which address it gets."""
        registry, now = self._registry, time.time()
        if credential.kind is CredentialKind.TOKEN:
            member = registry.enrol(key, hello.name, credential.id, now)
        else:
            known = registry.look_up(key)
            if known is None:  # revoked and forgotten since the handshake
                raise EnrolRefused(ByeCode.UNKNOWN, "this key is not of a member")
            member = check_known(known, hello.name)
        address = registry.lease(key, hello.address, self._subnet)
        registry.touch([key], now)
        return member, address

    async def _refuse(
        self, channel: Channel, device: MemberDevice, code: ByeCode, reason: str
    ) -> None:
        event(
            log,
            "member-refused",
            logging.WARNING,
            key=channel.peer.fingerprint(),
            via=channel.remote,
            code=code.name.lower(),
            reason=reason,
        )
        try:
            device.send_control(Bye(code, reason[:1000]))
            await channel.aclose(code, reason)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # gone before it could be told

    def check_revoked(self) -> list[str]:
        """Unplug every member whose key is not welcome any more; their names."""
        gone = []
        for key, plugged in list(self.plugged.items()):
            member = self._registry.look_up(key)
            if member is None or member.revoked is not None:
                plugged.device.close(ByeCode.REVOKED, f"{plugged.member.name} was revoked")
                self._switch.detach(plugged.port)
                gone.append(plugged.member.name)
        return gone


async def _hello(device: MemberDevice, said: list[ControlMessage]) -> Hello | None:
    """The first thing that a member says. Frames before it make no sense."""
    with trio.move_on_after(HELLO_TIMEOUT):
        while not said:
            await device.wait_readable()
            try:
                device.read_nowait(1)
            except trio.WouldBlock:
                continue
            if not said:
                raise BadRecord("frames before hello")
    if not said:
        return None
    if not isinstance(said[0], Hello):
        raise BadRecord("another message before hello")
    return said[0]


def _heard(message: ControlMessage) -> None:
    """A member may say goodbye; the end of its session follows and is what counts."""
