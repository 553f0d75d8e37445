"""Members and invites, for whoever asks: what is told of them, and how an invite is made.

Error contract: that of the registry; `ConfigError` for what is wrong with an invite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from transport.crypto.identity import KEY_BYTES, PublicKey
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError
from vswitch.management.status import InviteStatus, MemberStatus, PortStatus
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Invite, LastServed, Member


def make_invite(
    registry: Registry,
    served: LastServed,
    name: str,
    now: float,
    expires: float,
    public: Sequence[HostPort] = (),
    *,
    again: bool = False,
) -> str:
    """A join string that can be used until `expires`, seconds since the epoch as `now` is."""
    places = public or served.public
    if not places:
        raise ConfigError(
            "where members reach the switch is not known: give --public HOST[:PORT] here or to "
            "`vswitch serve`"
        )
    if served.key is None:
        raise ConfigError("the switch has noted no key: start `vswitch serve` once more")
    places = served.reached_at(places)
    string = JoinString.new(served.key, *places, name=name, https=served.https_at(places))
    invite = Invite(string.token_id, string.psk, name, now, expires)
    registry.add_invite(invite, again=again)
    return string.encode()


def invites_of(registry: Registry, members: Iterable[Member], now: float) -> list[InviteStatus]:
    """The invites that can still be used."""
    names = {member.name for member in members if member.revoked is None}
    served = registry.served()
    grace = None if served is None else served.grace
    found = []
    for each in registry.open_invites(now):
        expires, old = each.expires, grace is not None and grace.names_old(each)
        if grace is not None and old:
            expires = min(expires, now + grace.left)
        again = each.name in names
        found.append(
            InviteStatus(
                name=each.name, created=each.created, expires=expires, again=again, old_key=old
            )
        )
    return found


def ports_up(ports: Iterable[PortStatus]) -> dict[str, PortStatus]:
    """Those of members that are connected, by name."""
    return {port.name: port for port in ports if port.state == "up"}


def member_status(member: Member, up: Mapping[str, PortStatus] | None) -> MemberStatus:
    """Of one member. `up`: as `ports_up`, None where the switch does not run."""
    key = PublicKey(member.key)
    port = None if up is None or member.revoked is not None else up.get(member.name)
    return MemberStatus(
        name=member.name,
        fingerprint=key.fingerprint(),
        key=key.text(),
        created=member.created,
        address=member.address,
        last_seen=member.last_seen,
        revoked=member.revoked,
        disabled=member.disabled,
        connected=None if up is None else port is not None,
        via=None if port is None else port.via,
        post_quantum=None if port is None else port.post_quantum,
        routes=[str(network) for network in member.routes],
        offered=[] if port is None else [n for n in port.offered if n not in port.routes],
        switch_key=None if member.switch_key is None else _fingerprint(member.switch_key),
    )


def _fingerprint(key: bytes) -> str | None:
    """What is garbled in the registry has none."""
    return PublicKey(key).fingerprint() if len(key) == KEY_BYTES else None
