"""A reliable, encrypted, roaming message transport for Trio: KCP over UDP under Noise.

It knows nothing of Ethernet. An *endpoint* is one UDP socket with its *sessions*; a *channel* is
the Trio handle of a session, and carries whole messages, reliably and in order, between two
peers that have proven their keys. The wire is described in docs/wire-format.md, the reasons in
docs/security.md.

What is exported here is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transport.congestion.choice import TransportConfig
    from transport.crypto.identity import (
        PrivateKey,
        PublicKey,
        create_key_file,
        load_key_file,
        load_or_create_key_file,
    )
    from transport.crypto.kem import PostQuantum, post_quantum_missing, usable_post_quantum
    from transport.crypto.noise import NO_PSK
    from transport.endpoint.channel import Channel, ChannelBroken
    from transport.endpoint.endpoint import Endpoint, open_endpoint
    from transport.endpoint.listeners import listen_at
    from transport.endpoint.udp import DatagramSocket, UdpSocket, format_address, open_udp
    from transport.errors import (
        BadPacket,
        HandshakeRefused,
        HandshakeTimeout,
        KeyFileError,
        PeerUnreachable,
        TransportError,
    )
    from transport.handshake.admission import Authority, Grant
    from transport.handshake.messages import Peer
    from transport.stats import DROP_REASONS, EndpointStatistics, SessionStatistics
    from transport.wire.control import CloseCode
    from transport.wire.datagrams import Credential, CredentialKind, Result, Suite
    from transport.wire.trains import Address

__all__ = [
    "DROP_REASONS",
    "NO_PSK",
    "Address",
    "Authority",
    "BadPacket",
    "Channel",
    "ChannelBroken",
    "CloseCode",
    "Credential",
    "CredentialKind",
    "DatagramSocket",
    "Endpoint",
    "EndpointStatistics",
    "Grant",
    "HandshakeRefused",
    "HandshakeTimeout",
    "KeyFileError",
    "Peer",
    "PeerUnreachable",
    "PostQuantum",
    "PrivateKey",
    "PublicKey",
    "Result",
    "SessionStatistics",
    "Suite",
    "TransportConfig",
    "TransportError",
    "UdpSocket",
    "create_key_file",
    "format_address",
    "listen_at",
    "load_key_file",
    "load_or_create_key_file",
    "open_endpoint",
    "open_udp",
    "post_quantum_missing",
    "usable_post_quantum",
]

_NAMES = {  # by the module that has them
    "transport.congestion.choice": "TransportConfig",
    "transport.crypto.identity": "PrivateKey PublicKey create_key_file "
    "load_key_file load_or_create_key_file",
    "transport.crypto.kem": "PostQuantum post_quantum_missing usable_post_quantum",
    "transport.crypto.noise": "NO_PSK",
    "transport.endpoint.channel": "Channel ChannelBroken",
    "transport.endpoint.endpoint": "Endpoint open_endpoint",
    "transport.endpoint.listeners": "listen_at",
    "transport.endpoint.udp": "DatagramSocket UdpSocket format_address open_udp",
    "transport.errors": "BadPacket HandshakeRefused HandshakeTimeout KeyFileError "
    "PeerUnreachable TransportError",
    "transport.handshake.admission": "Authority Grant",
    "transport.handshake.messages": "Peer",
    "transport.stats": "DROP_REASONS EndpointStatistics SessionStatistics",
    "transport.wire.control": "CloseCode",
    "transport.wire.datagrams": "Credential CredentialKind Result Suite",
    "transport.wire.trains": "Address",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # a checker would take it for any name at all

    def __getattr__(name: str) -> Any:
        """Load a name on first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
