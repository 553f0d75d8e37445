"""Who is called what in a LAN: names, addresses and MACs of its members, and who hears of them.

The switch is told which MAC addresses derive from members' keys and which addresses members have,
so that guards keep them for who is away: at the start, when a member is made, and when the registry
has changed otherwise. Members that keep a list of the others hear that it is another one.

A member that must not know of others is told of nobody, and nobody of it.

Error contract: nothing is raised; an address that is garbled is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Network, ip_address

import trio

from vswitch.addresses import ipv6_from_mac, mac_from_key
from vswitch.frames.build import IpAddress
from vswitch.frames.ethernet import format_mac
from vswitch.members.protocol import MAX_PEERS, Peers, Roster
from vswitch.registry.rules import Member
from vswitch.serving.connected_member import ConnectedMember


class Directory:
    """Of the members of one LAN. Implements `vswitch.services.zone.HostNames`."""

    def __init__(self, connected: Mapping[bytes, ConnectedMember], prefix: IPv6Network) -> None:
        """`connected` are the members that are there, by key; in `prefix` all have an address."""
        # Told all MACs that derive from members' keys, and all packed addresses that members have,
        # each with the member's name.
        self.reserve: Callable[[Mapping[bytes, str], Mapping[bytes, str]], None] = lambda *_: None
        # Told the names that members had, each with the name that it is now.
        self.renamed: Callable[[Mapping[str, str]], None] = lambda _: None
        # Whether a member of that name may not know of others, nor they of it.
        self.separated: Callable[[str], bool] = lambda _: False
        self._connected = connected
        self._prefix = prefix
        self._roster: list[Member] = []  # by name
        self._named: dict[str, Member] = {}  # by each name that they have or had
        self._macs: dict[bytes, str] = {}  # reserved now
        self._addresses: dict[bytes, str] = {}  # the same
        self._hosts: dict[str, tuple[IpAddress, ...]] = {}  # the members, by name
        self._told = dict(self._hosts)  # as of the last `Roster`

    def update(self, members: Sequence[Member]) -> None:
        """These are all."""
        self._roster = sorted(members, key=lambda member: member.name)
        self._hosts = {each.name: _host_addresses(each.address) for each in members}
        self._tell_roster()
        self._named = {name: each for each in members for name in each.former.split()}
        self._named |= {each.name: each for each in members}
        self.renamed({old: each.name for old, each in self._named.items() if old != each.name})
        self._reserve(
            {mac_from_key(each.key): each.name for each in members},
            {
                packed: each.name
                for each in members
                for packed in self._packed(each, self._hosts[each.name])
            },
        )

    def enter(self, member: Member, address: str | None) -> None:
        """This one comes, and has been given that address."""
        name, addresses = member.name, _host_addresses(address)
        packed = dict.fromkeys(self._packed(member, addresses), name)
        self._reserve({**self._macs, mac_from_key(member.key): name}, {**self._addresses, **packed})
        self._named[name] = member
        self._hosts[name] = addresses

    def _packed(self, member: Member, addresses: tuple[IpAddress, ...]) -> tuple[bytes, ...]:
        """All that nobody else may have."""
        own = ipv6_from_mac(self._prefix, mac_from_key(member.key))
        return tuple(each.packed for each in (*addresses, own))

    def _reserve(self, macs: dict[bytes, str], addresses: dict[bytes, str]) -> None:
        if (macs, addresses) != (self._macs, self._addresses):
            self._macs, self._addresses = macs, addresses
            self.reserve(macs, addresses)

    def _tell_roster(self) -> None:
        """Members that keep a list of the others are to ask for it anew."""
        if self._hosts == self._told:
            return
        self._told = dict(self._hosts)
        for connected in self._connected.values():
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                connected.device.send_control(Roster())

    def find(self, name: str) -> Member | None:
        """The member that is called so, or was before it was renamed, if nobody else is now."""
        return self._named.get(name)

    def peers(self, asks: str, after: str) -> Peers:
        """What the member of that name is told of those behind another in the alphabet."""
        alone = self.separated(asks)
        told = [
            member
            for member in self._roster
            if member.name > after
            and (member.name == asks or not (alone or self.separated(member.name)))
        ]
        return Peers(
            tuple(self._peer(each) for each in told[:MAX_PEERS]), more=len(told) > MAX_PEERS
        )

    def _peer(self, member: Member) -> str:
        connected = self._connected.get(member.key)
        bound = None if connected is None else connected.port.bound
        mac = mac_from_key(member.key) if bound is None else bound.mac
        state = "away" if connected is None else "up"
        where = "-" if mac is None else format_mac(mac)
        return f"{member.name} {state} {member.address or '-'} {where}"

    def addresses(self, label: str, asker: str) -> tuple[IpAddress, ...] | None:
        """Of the member of that name; None if the port `asker` may not know of it."""
        hidden = label != asker and (self.separated(asker) or self.separated(label))
        return None if hidden else self._hosts.get(label)

    def label(self, address: IpAddress, asker: str) -> str | None:
        """The member that has this address; None as above."""
        name = self._addresses.get(address.packed)
        return None if name is None or self.addresses(name, asker) is None else name

    def mac(self, label: str, asker: str) -> bytes | None:
        """That the member of that name has announced, if it is connected and no bridge; None as
        above.
        """
        member = None if self.addresses(label, asker) is None else self._named.get(label)
        connected = None if member is None else self._connected.get(member.key)
        if connected is None or connected.port.bound is None or connected.port.bridge:
            return None
        return connected.port.bound.mac

    def label_of_mac(self, mac: bytes, asker: str) -> str | None:
        """The member from whose key it derives; None as above."""
        name = self._macs.get(mac)
        return None if name is None or self.addresses(name, asker) is None else name


def _host_addresses(address: str | None) -> tuple[IpAddress, ...]:
    try:
        return () if address is None else (ip_address(address),)
    except ValueError:
        return ()
