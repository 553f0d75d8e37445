"""From a profile to a channel: resolve, bind, shake hands.

Error contract: `RefusedError` (with the code) for a definite no, `TimedOut` for silence,
`NotReachable` when there is no way at all just now, `ConfigError` for a `--bind` that cannot be.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from transport import (
    Channel,
    Credential,
    CredentialKind,
    HandshakeRefused,
    HandshakeTimeout,
    Peer,
    Result,
    UdpSocket,
    open_endpoint,
    open_udp,
    resolve,
)
from vswitch.core.control import ByeCode
from vswitch.errors import ConfigError, NotReachable, PrivilegeError, TimedOut
from vswitch.membership import EnrolRefused
from vswitch.profiles import Profile

__all__ = ["open_channel"]

_REFUSALS = {
    Result.REVOKED: (
        ByeCode.REVOKED,
        "the key of this member was revoked; to let this host in again, remove its profile and "
        "key, and join with a new invite",
    ),
    Result.CREDENTIAL_USED: (
        ByeCode.INVITE_USED,
        "the invite was used already, with another key: ask for a new one",
    ),
    Result.CREDENTIAL_EXPIRED: (
        ByeCode.INVITE_EXPIRED,
        "the invite has expired: ask for a new one",
    ),
}


@asynccontextmanager
async def open_channel(
    profile: Profile, bind: str | None, *, patience: float
) -> AsyncIterator[Channel]:
    """A channel to the profile's switch, from any of its addresses that answers.

    `bind`: the local address or interface to use; `patience`: seconds until `TimedOut`.
    """
    server = profile.server
    try:
        found = await resolve(server.host, server.port)
    except OSError as error:
        raise NotReachable(f"cannot resolve {server.host}: {error.strerror or error}") from None
    sock = _open_socket(bind)
    try:
        addresses = [sock.to_native(host, port) for host, port in found if sock.can_reach(host)]
    except OSError as error:  # the interface after the % of a link-local address
        sock.close()
        raise NotReachable(f"cannot reach {server.host}: {error.strerror or error}") from None
    if not addresses:
        sock.close()
        raise NotReachable(f"{server.host} has no address that {bind or 'this host'} can reach")
    async with open_endpoint(sock, profile.private_key) as endpoint:
        try:
            channel = await endpoint.connect(_peer(profile), addresses, patience=patience)
        except HandshakeRefused as refused:
            refusal = _REFUSALS.get(Result(refused.result))
            if refusal is None:  # full: that changes
                raise NotReachable("the switch is full") from None
            raise EnrolRefused(*refusal) from None
        except HandshakeTimeout:
            raise TimedOut(
                f"no answer from {server}: it is not running or not reachable there, it has "
                "another key, or it does not know this member"
            ) from None
        except ValueError as error:
            raise ConfigError(f"the key of the switch cannot be right: {error}") from None
        try:
            yield channel
        finally:
            channel.close(ByeCode.NORMAL, "the member has left")


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
            raise NotReachable(f"--bind {bind}: {error.strerror}; see `ip address`") from None
        raise NotReachable(f"cannot open a UDP socket: {error.strerror}") from None
