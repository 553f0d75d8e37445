"""A reliable, encrypted, roaming message transport for Trio: KCP over UDP under Noise.

It knows nothing of Ethernet. An *endpoint* is one UDP socket with its *sessions*; a *channel* is
the Trio handle of a session, and carries whole messages, reliably and in order, between two
peers that have proven their keys. The wire is described in docs/wire-format.md, the reasons in
docs/security.md.
"""

from transport.config import TransportConfig
from transport.crypto.identity import (
    PrivateKey,
    PublicKey,
    create_key_file,
    load_key_file,
    load_or_create_key_file,
)
from transport.crypto.noise import NO_PSK
from transport.endpoint.channel import Channel, ChannelBroken
from transport.endpoint.endpoint import Endpoint, open_endpoint
from transport.endpoint.udp import DatagramSocket, UdpSocket, format_address, open_udp, resolve
from transport.errors import (
    BadPacket,
    HandshakeRefused,
    HandshakeTimeout,
    KeyFileError,
    TransportError,
)
from transport.handshake.admission import Authority, Grant
from transport.handshake.messages import Peer
from transport.stats import DROP_REASONS, EndpointStatistics, SessionStatistics
from transport.wire.control import CloseCode
from transport.wire.datagrams import Credential, CredentialKind, Result, Suite

__all__ = [
    "DROP_REASONS",
    "NO_PSK",
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
    "load_key_file",
    "load_or_create_key_file",
    "open_endpoint",
    "open_udp",
    "resolve",
]
