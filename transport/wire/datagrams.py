"""Datagram layouts: bytes to attrs classes and back. docs/wire-format.md has the tables.

All integers are little-endian, as in Noise-based protocols. Lengths are fixed for the handshake
types and at least header and tag for sealed ones. `decode_*_untrusted` raises `BadPacket` and
nothing else; the classes hold what the bytes said, checked for form and not for truth.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final

from attrs import frozen

from transport.constants import (
    COOKIE_REPLY_SIZE,
    INIT_SIZE,
    KCP_MTU,
    MACS_SIZE,
    MIN_KCP_MTU,
    RESET_SIZE,
    RESET_TOKEN_SIZE,
    RESPONSE_SIZE,
    VERSION,
)
from transport.errors import BadPacket


class Suite(enum.IntEnum):
    """The cipher of handshake and session; the number is the wire's."""

    CHACHAPOLY = 1
    AESGCM = 2  # with the 32-byte keys of Noise: AES-256


# --- Types and headers ---------------------------------------------------------------------------

# Datagram types, the first byte.
INIT: Final = 1
RESPONSE: Final = 2
COOKIE: Final = 3
DATA: Final = 4
CONTROL: Final = 5
RESET: Final = 6
DATAGRAM: Final = 7  # the datagram lane

# type, slice, slices, zero, receiver index, counter: in front of everything sealed.
HEADER: Final = Struct("<BBBBIQ")


class CredentialKind(enum.IntEnum):
    """What besides its key a client has to show; selects the pre-shared key of the handshake."""

    NONE = 0  # the key is known
    NETWORK = 1  # a secret shared by a whole network
    TOKEN = 2  # a single-use invite


@frozen
class Credential:
    """Which pre-shared key an init uses: kind and 8-byte id, in clear on the wire."""

    kind: CredentialKind = CredentialKind.NONE
    id: bytes = bytes(8)


class Result(enum.IntEnum):
    """The responder's answer to an authentic init."""

    OK = 0
    REVOKED = 1
    CREDENTIAL_USED = 2
    FULL = 3
    CREDENTIAL_EXPIRED = 4


# --- Handshake ---------------------------------------------------------------------------------

_INIT = Struct("<BBBBI8s32s48s104s")  # 200 bytes, then the two MACs
_INIT_PAYLOAD = Struct("<Q16sQHHB3xI44x")
_RESPONSE = Struct("<BBHII32s64s")  # 108 bytes, then the two MACs
_RESPONSE_PAYLOAD = Struct("<QIBBHHBx16sIQ")

_INIT_BODY_SIZE = INIT_SIZE - MACS_SIZE
_RESPONSE_BODY_SIZE = RESPONSE_SIZE - MACS_SIZE
assert _INIT.size == _INIT_BODY_SIZE
assert _INIT_PAYLOAD.size == 88
assert _RESPONSE.size == _RESPONSE_BODY_SIZE
assert _RESPONSE_PAYLOAD.size == 48

_TAKES_PARITY = 1  # of the bits that say what a side takes
INIT_CLEAR_SIZE: Final = 16  # type … credential id: authenticated as part of the prologue


@frozen
class InitHeader:
    """An init as it came: the clear fields and the Noise message that follows them."""

    credential: Credential
    suite: Suite
    sender_index: int
    clear: bytes  # the first 16 bytes, for the prologue
    noise: bytes  # 184 bytes
    mac1: bytes


@frozen
class InitPayload:
    """What an init says under its seal."""

    timestamp_ns: int  # wall clock; only has to grow
    cookie_echo: bytes = bytes(16)
    resume: int = 0  # association to go on with, 0 for a new one
    kcp_mtu: int = KCP_MTU
    receive_window: int = 0  # segments
    max_slices: int = 1
    takes_parity: bool = False

    def encode(self) -> bytes:
        return _INIT_PAYLOAD.pack(
            self.timestamp_ns,
            self.cookie_echo,
            self.resume,
            self.kcp_mtu,
            self.receive_window,
            self.max_slices,
            _TAKES_PARITY * self.takes_parity,
        )


@frozen
class ResponseHeader:
    """A response as it came."""

    sender_index: int
    receiver_index: int
    noise: bytes  # 96 bytes


@frozen
class ResponsePayload:
    """What a response says under its seal."""

    association: int
    index_copy: int  # must repeat the sender index of the response
    resumed: bool = False
    result: Result = Result.OK
    kcp_mtu: int = KCP_MTU
    receive_window: int = 0
    max_slices: int = 1
    reset_token: bytes = bytes(16)
    server_time_ms: int = 0
    takes_parity: bool = False

    def encode(self) -> bytes:
        return _RESPONSE_PAYLOAD.pack(
            self.association,
            self.index_copy,
            int(self.resumed),
            self.result,
            self.kcp_mtu,
            self.receive_window,
            self.max_slices,
            self.reset_token,
            _TAKES_PARITY * self.takes_parity,
            self.server_time_ms,
        )


def encode_init_clear(credential: Credential, suite: Suite, sender_index: int) -> bytes:
    """The first 16 bytes of an init: type, version, credential kind, suite, index, credential."""
    head = Struct("<BBBBI8s")
    return head.pack(INIT, VERSION, credential.kind, suite, sender_index, credential.id)


def decode_init_untrusted(datagram: bytes) -> InitHeader:
    if len(datagram) != INIT_SIZE:
        raise BadPacket("malformed")
    _, version, kind, suite, index, credential_id, *_ = _INIT.unpack_from(datagram)
    if version != VERSION:
        raise BadPacket("bad_version")
    try:
        credential = Credential(CredentialKind(kind), credential_id)
        chosen = Suite(suite)
    except ValueError:
        raise BadPacket("malformed") from None
    return InitHeader(
        credential=credential,
        suite=chosen,
        sender_index=index,
        clear=datagram[:INIT_CLEAR_SIZE],
        noise=datagram[INIT_CLEAR_SIZE:_INIT_BODY_SIZE],
        mac1=datagram[_INIT_BODY_SIZE : _INIT_BODY_SIZE + 16],
    )


def decode_init_payload_untrusted(payload: bytes) -> InitPayload:
    if len(payload) != _INIT_PAYLOAD.size:
        raise BadPacket("malformed")
    timestamp, cookie, resume, mtu, window, slices, takes = _INIT_PAYLOAD.unpack(payload)
    takes_parity = bool(takes & _TAKES_PARITY)
    decoded = InitPayload(timestamp, cookie, resume, mtu, window, slices, takes_parity)
    _check_parameters(decoded.kcp_mtu, decoded.receive_window, decoded.max_slices)
    return decoded


def encode_response(sender_index: int, receiver_index: int, noise: bytes) -> bytes:
    """A response without its MACs; `noise` is 96 bytes."""
    return Struct("<BBHII").pack(RESPONSE, VERSION, 0, sender_index, receiver_index) + noise


def decode_response_untrusted(datagram: bytes) -> ResponseHeader:
    if len(datagram) != RESPONSE_SIZE:
        raise BadPacket("malformed")
    _, version, zero, sender, receiver, *_ = _RESPONSE.unpack_from(datagram)
    if version != VERSION:
        raise BadPacket("bad_version")
    if zero:
        raise BadPacket("malformed")
    return ResponseHeader(sender, receiver, datagram[12:_RESPONSE_BODY_SIZE])


def decode_response_payload_untrusted(payload: bytes) -> ResponsePayload:
    if len(payload) != _RESPONSE_PAYLOAD.size:
        raise BadPacket("malformed")
    association, index_copy, flags, result, mtu, window, slices, token, takes, server_time = (
        _RESPONSE_PAYLOAD.unpack(payload)
    )
    try:
        outcome = Result(result)
    except ValueError:
        raise BadPacket("malformed") from None
    _check_parameters(mtu, window, slices)
    return ResponsePayload(
        association,
        index_copy,
        bool(flags & 1),
        outcome,
        mtu,
        window,
        slices,
        token,
        server_time,
        bool(takes & _TAKES_PARITY),
    )


def _check_parameters(kcp_mtu: int, receive_window: int, max_slices: int) -> None:
    if kcp_mtu < MIN_KCP_MTU or receive_window < 128 or not max_slices:
        raise BadPacket("malformed")


def decode_cookie_index_untrusted(datagram: bytes) -> int:
    """The receiver index of a cookie reply; the rest is `cookie.MacStamper`'s."""
    if len(datagram) != COOKIE_REPLY_SIZE:
        raise BadPacket("malformed")
    return int.from_bytes(datagram[4:8], "little")


def encode_reset(noise: bytes, token: bytes) -> bytes:
    """Type, 7 bytes of chance, token: no index, as it would tell who is meant."""
    return bytes((RESET,)) + noise + token


def decode_reset_untrusted(datagram: bytes) -> bytes:
    """The token of a stateless reset; zeros are nobody's."""
    if len(datagram) != RESET_SIZE or datagram.endswith(bytes(RESET_TOKEN_SIZE)):
        raise BadPacket("malformed")
    return datagram[-RESET_TOKEN_SIZE:]
