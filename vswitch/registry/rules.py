"""What a member is, what an invite is, and the rules by which one is accepted or refused.

Pure: the registry fetches what is known and asks these functions; they decide. Times are
wall-clock seconds since the epoch.

Error contract: `EnrolRefused`, whose code goes on the wire to the member's program and whose
message is for its user: it names the holder, or says what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
)

from attrs import Attribute, field, frozen
from attrs.validators import instance_of, optional

from transport.crypto.identity import PublicKey
from vswitch.addresses import (
    HostPort,
    lan_prefix,
    lowest_free,
    parse_https,
    parse_wish,
    reserved_reason,
)
from vswitch.clocks import utc
from vswitch.errors import ByeCode, Problem, RefusedError
from vswitch.registry.approvals import Address, Network

_YEARS = -62_135_596_800, 253_402_300_800  # seconds of the epoch: 1 to 9999, as `datetime` has them


# A file that is garbled may hold anything in any place.
def _is_time(_: object, attribute: Attribute[float], value: object) -> None:
    if not isinstance(value, int | float) or not _YEARS[0] <= value < _YEARS[1]:
        raise ValueError(f"{attribute.name!r} must be a time that can be shown (got {value!r})")


def _to_networks(value: object) -> tuple[Network, ...]:
    """Of a text of the registry, with spaces between them."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str):
        raise ValueError(f"networks must be text (got {value!r})")
    return tuple(map(ip_network, value.split()))


@frozen
class Member:
    """One member. `address` has no prefix length; `revoked` and `disabled` are when, or None;
    `former` are names that it had, which its host may still say, the latest last.
    """

    name: str = field(validator=instance_of(str))
    key: bytes = field(validator=instance_of(bytes))
    address: str | None = field(validator=optional(instance_of(str)))
    created: float = field(validator=_is_time)
    last_seen: float | None = field(validator=optional(_is_time))
    revoked: float | None = field(validator=optional(_is_time))
    disabled: float | None = field(default=None, validator=optional(_is_time))
    former: str = field(default="", validator=instance_of(str))  # separated by spaces
    # Networks behind it that others may reach through it.
    routes: tuple[Network, ...] = field(default=(), converter=_to_networks)
    # Which public key of the switch its host used last, as far as is known.
    switch_key: bytes | None = field(default=None, validator=optional(instance_of(bytes)))


@frozen
class Invite:
    """One invite as the switch knows it: the key derived from the secret, not the secret."""

    id: bytes = field(validator=instance_of(bytes))
    psk: bytes = field(repr=False, validator=instance_of(bytes))
    name: str = field(validator=instance_of(str))
    created: float = field(validator=_is_time)
    expires: float = field(validator=_is_time)
    used: float | None = field(default=None, validator=optional(_is_time))
    used_by: bytes | None = field(default=None, validator=optional(instance_of(bytes)))


@frozen
class Lease:
    """An address that a machine which is no member got by DHCP. `granted` and `expires` are seconds
    of the epoch in the registry.
    """

    mac: bytes = field(validator=instance_of(bytes))
    address: str = field(validator=instance_of(str))  # without a prefix length
    port: str = field(validator=instance_of(str))  # the name of the port that it was behind
    hostname: str = field(validator=instance_of(str))  # that it says it has; "" for none
    granted: float = field(validator=_is_time)
    expires: float = field(validator=_is_time)


@frozen
class Grace:
    """While a new key of the switch replaces the old one, which is good as well."""

    old: PublicKey
    since: float = field(validator=_is_time)  # when there was a new one
    until: float = field(validator=_is_time)

    def names_old(self, invite: Invite) -> bool:
        """Whether its join string has the old key."""
        return invite.created < self.since


@frozen
class LastServed:
    """How the switch was run last; where it listens, the first place before others."""

    listen: tuple[HostPort, ...]
    public: tuple[HostPort, ...]
    subnet: IPv4Network
    reserved: tuple[str, ...] = ()  # names of its other ports, and of listeners that make ports
    key: PublicKey | None = None  # None where an older version has noted it
    https: str = ""  # where members reach it over HTTPS; without a host, at each public place
    lan: str = "default"  # the name of its network
    origin: PublicKey | None = None  # its first key, where it is not the first any more
    grace: Grace | None = None  # while there are two

    @property
    def seed(self) -> bytes:
        """What addresses on the LAN follow from; the same whatever key the switch has later."""
        first = self.origin or self.key
        return b"" if first is None else first.raw

    @property
    def prefix(self) -> IPv6Network:
        """Of the IPv6 addresses of members that need one."""
        return lan_prefix(self.seed, self.lan)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the switch is, as far as options say it."""
        found = []
        for each in (*self.public, *self.listen):
            with suppress(ValueError):  # a name
                found.append(ip_address(each.host.partition("%")[0]))
        return tuple(each for each in found if not each.is_unspecified)

    def reached_at(self, public: Iterable[HostPort]) -> tuple[HostPort, ...]:
        """Where members reach it. Port 0 stands for that of the place of this address, or of the
        first one.
        """
        ports = {"": self.listen[0].port} | {each.host: each.port for each in reversed(self.listen)}
        found = [(each.host, each.port or ports.get(each.host, ports[""])) for each in public]
        return tuple(HostPort(*each) for each in dict.fromkeys(found))

    def https_at(self, public: Iterable[HostPort]) -> tuple[str, ...]:
        """Where members reach it over HTTPS, as `addresses.parse_https` writes it."""
        start, colon, rest = self.https.partition("//:")
        if not colon:
            return (self.https,) if self.https else ()
        hosts = dict.fromkeys(HostPort(each.host, 0).text().removesuffix(":0") for each in public)
        return tuple(parse_https(f"{start}//{host}:{rest}") for host in hosts)


@frozen
class Refusal:
    """What a code means to the program of the member that is refused."""

    sentence: str = ""  # for its user, where whoever refuses cannot say it more precisely
    final: bool = True  # time does not mend it: no other attempt is made
    known: bool = True  # the switch may know the key as a member's: a new key would lose its name


_LET_IN_AGAIN = "to let this host in again, run `vswitch leave NAME` on it and use a new invite"

REFUSALS: Mapping[int, Refusal] = {
    ByeCode.REVOKED: Refusal(f"the key of this member was revoked; {_LET_IN_AGAIN}"),
    ByeCode.NAME_TAKEN: Refusal(known=False),
    ByeCode.ADDRESS_TAKEN: Refusal(),
    ByeCode.INVITE_USED: Refusal(
        "the invite was used already, with another key: ask for a new one", known=False
    ),
    ByeCode.INVITE_EXPIRED: Refusal("the invite has expired: ask for a new one", known=False),
    ByeCode.FULL: Refusal("the switch is full", final=False),
    ByeCode.UNKNOWN: Refusal("this key is not of a member", known=False),
    ByeCode.DISABLED: Refusal("this member is disabled at the switch", final=False),
    ByeCode.REKEYED: Refusal(
        "the switch has another key now, which this member has not got: on the switch run "
        "`vswitch invite NAME --again`, then here `vswitch join STRING`"
    ),
}
_OTHER = Refusal(final=False)  # also what only newer switches know


def refusal(code: int) -> Refusal:
    """What it means; `code` as it came from the wire, where an unknown one is just a number."""
    return REFUSALS.get(code, _OTHER)


class EnrolRefused(RefusedError):
    """A member is refused; `code` tells its program, the message tells its user."""

    def __init__(self, code: ByeCode, message: str = "") -> None:
        super().__init__(message or refusal(code).sentence)
        self.code = code


def check_known(member: Member, name: str) -> Member:
    """Whether a key that is known already may have `name` ("" means the name that it has)."""
    if member.revoked is not None:
        raise EnrolRefused(
            ByeCode.REVOKED,
            f"the key of {member.name} was revoked on {_date(member.revoked)}; {_LET_IN_AGAIN}",
        )
    if member.disabled is not None:
        raise EnrolRefused(
            ByeCode.DISABLED,
            f"{member.name} was disabled on {_date(member.disabled)}, until `vswitch enable "
            f"{member.name}` at the switch",
        )
    if name not in ("", member.name, *member.former.split()):
        raise EnrolRefused(
            ByeCode.NAME_TAKEN,
            f"this key is a member named {member.name}: join with --name {member.name}",
        )
    return member


def check_elsewhere(member: Member | None, network: str) -> None:
    """Whether a key may be of a member of another network than this one, which knows it so."""
    if member is not None and member.revoked is None:
        raise EnrolRefused(
            ByeCode.NAME_TAKEN,
            f"this key is of {member.name} in the network {network}, and a key can be in one "
            "network: join with an invite for another name, which gets a key of its own",
        )


def check_invite(invite: Invite, name: str, now: float) -> None:
    """Whether the invite can make a member of this name ("" means the name in the invite)."""
    if invite.used is not None:
        raise EnrolRefused(
            ByeCode.INVITE_USED,
            f"the invite for {invite.name} was used on {_date(invite.used)} by another key: "
            f"revoke {invite.name} if that was not you, and ask for a new invite",
        )
    if now >= invite.expires:
        raise EnrolRefused(
            ByeCode.INVITE_EXPIRED,
            f"the invite for {invite.name} expired on {_date(invite.expires)}: ask for a new one",
        )
    if name not in ("", invite.name):
        raise EnrolRefused(
            ByeCode.UNKNOWN,
            f"the invite is for {invite.name}: join with --name {invite.name}, or ask for an "
            "invite for the other name",
        )


def name_taken(holder: Member) -> EnrolRefused:
    """The refusal for a name that another key has."""
    return EnrolRefused(
        ByeCode.NAME_TAKEN,
        f"the name {holder.name} is taken by another key, a member since "
        f"{_date(holder.created)}: choose another name, or run `vswitch revoke {holder.name}`",
    ).of(Problem.NAME_TAKEN, name=holder.name)


LOCAL_PORT = "local"  # name of the port of the switch's own host
SERVICES_PORT = "services"  # and of that of its own services
PUBLISH_PORT = "publish"  # of that from which published services are reached
RULE_WORDS = ANY, INTERNET, SWITCH = "any", "internet", "switch"  # of a side of a rule, no names


def taken_reason(name: str, reserved: Collection[str]) -> str | None:
    """Why no member can have this name; None if one can."""
    if name == LOCAL_PORT:
        return "that is the port of the switch's own host"
    if name == SERVICES_PORT:
        return "that is the port of the switch's own services"
    if name == PUBLISH_PORT:
        return "that is the port by which `vswitch publish` reaches members"
    if name in RULE_WORDS:
        return "that is a word of rules"
    if name.isdigit():
        return "a number means the port of that number"
    front, dash, number = name.rpartition("-")
    if name in reserved or (dash and number.isdigit() and front in reserved):
        return "that is a foreign port of the switch"
    return None


def choose_address(
    member: Member, wish: str, subnet: IPv4Network, holders: Mapping[IPv4Address, str]
) -> IPv4Address | None:
    """The address that a member gets; None if it wants none.

    Args:
        wish: "auto", "none" or an address with prefix length, as the member sent it.
        subnet: of the switch.
        holders: the addresses of all other members, with their names.
    """
    try:
        wish = parse_wish(wish)
    except ValueError as error:
        raise EnrolRefused(ByeCode.PROTOCOL, f"the address cannot be used: {error}") from None
    if wish == "none":
        return None
    if wish == "auto":
        held = None if member.address is None else IPv4Address(member.address)
        if held is not None and reserved_reason(held, subnet) is None:
            return held
        if (free := lowest_free(subnet, holders)) is None:
            raise EnrolRefused(
                ByeCode.FULL,
                f"all addresses of {subnet} are given away: revoke members, or serve with a "
                "larger --subnet",
            )
        return free
    asked = IPv4Interface(wish)
    if (reason := reserved_reason(asked.ip, subnet)) is not None:
        raise EnrolRefused(ByeCode.ADDRESS_TAKEN, f"{asked.ip} cannot be given: {reason}")
    if asked.network.prefixlen != subnet.prefixlen:
        raise EnrolRefused(
            ByeCode.ADDRESS_TAKEN,
            f"{asked} does not fit the subnet {subnet}: ask for {asked.ip}/{subnet.prefixlen}",
        )
    if asked.ip in holders:
        raise EnrolRefused(
            ByeCode.ADDRESS_TAKEN,
            f"{asked.ip} is taken by {holders[asked.ip]}: ask for another, or use auto",
        )
    return asked.ip


def _date(seconds: float) -> str:
    return utc(seconds, "%Y-%m-%d %H:%M UTC")
