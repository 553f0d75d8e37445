"""Who may connect, and to which network: which keys may shake hands, asked of the registries.

An invite is of the network whose registry knows its token; without one a key is of the network that
has it as a member. A key can be in one network: `enrol` keeps to that, whoever asks at once, and
`check_apart` finds what was brought about by hand.

A stranger costs one point read of each registry, and is told nothing: the answer is silence, and
where nobody knows the key or token all of them were asked.

Error contract: `look_up` and `network_of` raise nothing. A registry that cannot be read is logged,
and answers nobody; nobody is told then that another one has revoked the key.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from transport import Credential, CredentialKind, Grant, PublicKey, Result
from vswitch.errors import ConfigError, VswitchError
from vswitch.logs import event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Invite, Member, check_elsewhere

log = logging.getLogger(__name__)


class RegistryAuthority:
    """Which keys the transport may answer: members, and who holds an invite. Implements
    `transport.Authority`.

    A stranger gets silence; somebody known who may not come in is told why, once the key is
    proven.
    """

    def __init__(self, registries: Mapping[str, Registry]) -> None:
        """`registries` by the names of their networks, in the order in which they are asked."""
        self.registries = registries  # replaced whole, since threads go through it
        self._enrolling = threading.Lock()
        # Told of a revoked key that asks, so that the reception ends what it still has.
        self.on_revoked: Callable[[bytes], None] | None = None

    def look_up(self, peer: PublicKey, credential: Credential) -> Grant | None:
        """Point reads of the registries; None is silence."""
        if credential.kind is CredentialKind.TOKEN:
            found = self._by_token(peer.raw, credential.id)
            return None if found is None else _with_token(peer.raw, *found[1:])
        known = self._by_key(peer.raw)
        if known is None:
            return None
        if known[1].revoked is not None and self.on_revoked is not None:
            self.on_revoked(peer.raw)
        return Grant(result=Result.OK if known[1].revoked is None else Result.REVOKED)

    def network_of(self, key: bytes, credential: Credential) -> str | None:
        """The network that the holder of this key comes to; None for strangers."""
        if credential.kind is CredentialKind.TOKEN:
            found = self._by_token(key, credential.id)
            return None if found is None else found[0]
        known = self._by_key(key)
        return None if known is None else known[0]

    def enrol(self, network: str, key: bytes, name: str, invite_id: bytes, now: float) -> Member:
        """As `Registry.enrol` of that network, for a key that no other network has."""
        with self._enrolling:
            for other, registry in self.registries.items():
                if other != network:
                    check_elsewhere(registry.look_up(key), other)
            return self.registries[network].enrol(key, name, invite_id, now)

    def check_apart(self) -> None:
        """Raises `ConfigError` for a key that is a member's in two networks."""
        seen: dict[bytes, str] = {}
        for network, registry in self.registries.items():
            for member in registry.current():
                said = f"{member.name} of network {network}"
                if (other := seen.setdefault(member.key, said)) != said:
                    raise ConfigError(
                        f"{said} and {other} have the same key, and a key can be in one network: "
                        f"`vswitch revoke {member.name} --network {network}`, and invite it anew"
                    )

    def _by_token(self, key: bytes, id: bytes) -> tuple[str, Member | None, Invite] | None:
        for network, registry in self.registries.items():
            try:
                if (invite := registry.invite(id)) is not None:
                    return network, registry.look_up(key), invite
            except VswitchError as error:
                self._unread(network, error)
        return None

    def _by_key(self, key: bytes) -> tuple[str, Member] | None:
        revoked, unread = None, False
        for network, registry in self.registries.items():
            try:
                member = registry.look_up(key)
            except VswitchError as error:
                self._unread(network, error)
                unread = True
                continue
            if member is not None and member.revoked is None:
                return network, member
            if member is not None and revoked is None:
                revoked = network, member
        return None if unread else revoked

    def _unread(self, network: str, error: VswitchError) -> None:
        named = network if len(self.registries) > 1 else None
        event(log, "registry-failed", logging.ERROR, error=error, network=named)


def _with_token(key: bytes, member: Member | None, invite: Invite) -> Grant:
    result = Result.OK
    if member is not None and member.revoked is not None:
        result = Result.REVOKED
    elif invite.used is not None and invite.used_by != key:
        result = Result.CREDENTIAL_USED
    elif invite.used is None and time.time() >= invite.expires:
        result = Result.CREDENTIAL_EXPIRED
    return Grant(invite.psk, result)
