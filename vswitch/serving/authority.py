"""Who may connect: which keys may shake hands with the switch, asked of the registry.

Error contract: nothing raises. A registry that cannot be read is logged, and answers nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from transport import Credential, CredentialKind, Grant, PublicKey, Result
from vswitch.errors import VswitchError
from vswitch.logs import event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Member

log = logging.getLogger(__name__)


class RegistryAuthority:
    """Which keys the transport may answer: members, and who holds an invite. Implements
    `transport.Authority`.

    A stranger gets silence; somebody known who may not come in is told why, once the key is
    proven. A registry that cannot be read is logged and answers nobody.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Told of a revoked key that asks, so that the reception ends what it still has.
        self.on_revoked: Callable[[bytes], None] | None = None

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
        if member.revoked is not None and self.on_revoked is not None:
            self.on_revoked(peer.raw)
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
