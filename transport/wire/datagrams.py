"""Datagram layouts: bytes to attrs classes and back. docs/wire-format.md has the tables.

All integers are little-endian, as in Noise-based protocols. Lengths are fixed for the handshake
types, by form, and at least header and tag for sealed ones. `decode_*_untrusted` raises `BadPacket`
and nothing else; the classes hold what the bytes said, checked for form and not for truth.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final

from attrs import frozen

from transport.constants import (
    COOKIE_REPLY_SIZE,
    HANDSHAKE_SLICE_SIZE,
    HYBRID_INIT_SIZE,
    HYBRID_RESPONSE_SIZE,
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
INIT_SLICE: Final = 8
RESPONSE_SLICE: Final = 9

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
    HYBRID = 5  # not in this form: come with a hybrid init


# --- Handshake ---------------------------------------------------------------------------------

_INIT_CLEAR = Struct("<BBBBI8s")  # 16 bytes, then the Noise message and the two MACs
_INIT_PAYLOAD = Struct("<Q16sQHHB3xI44x")
_RESPONSE_CLEAR = Struct("<BBHII")  # 12 bytes, then the same
_RESPONSE_PAYLOAD = Struct("<QIBBHHBx16sIQ")
_SLICE = Struct("<BBBBI8s")  # 16 bytes, then the piece and the two MACs

assert _INIT_PAYLOAD.size == 88
assert _RESPONSE_PAYLOAD.size == 48

# Bits that say what a side takes.
_TAKES_PARITY = 1
_TAKES_HYBRID = 2
_HYBRID_SUITE = 0x80  # added to the suite of a hybrid init
HYBRID_PAYLOAD_SIZE: Final = 72  # of an init; its padding has made room for a tag
INIT_CLEAR_SIZE: Final = 16  # type … credential id: authenticated as part of the prologue


@frozen
class InitHeader:
    """An init as it came: the clear fields and the Noise message that follows them."""

    credential: Credential
    suite: Suite
    sender_index: int
    clear: bytes  # the first 16 bytes, for the prologue
    noise: bytes  # 184 bytes, 1,368 of a hybrid one
    mac1: bytes
    hybrid: bool = False


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
    takes_hybrid: bool = False  # this handshake, or another one instead of it

    def encode(self) -> bytes:
        """88 bytes, of which a hybrid init leaves out the last 16."""
        return _INIT_PAYLOAD.pack(
            self.timestamp_ns,
            self.cookie_echo,
            self.resume,
            self.kcp_mtu,
            self.receive_window,
            self.max_slices,
            _TAKES_PARITY * self.takes_parity | _TAKES_HYBRID * self.takes_hybrid,
        )


@frozen
class ResponseHeader:
    """A response as it came."""

    sender_index: int
    receiver_index: int
    noise: bytes  # 96 bytes, 1,200 of a hybrid one
    hybrid: bool = False


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
    takes_hybrid: bool = False

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
            _TAKES_PARITY * self.takes_parity | _TAKES_HYBRID * self.takes_hybrid,
            self.server_time_ms,
        )


def encode_init_clear(
    credential: Credential, suite: Suite, sender_index: int, *, hybrid: bool = False
) -> bytes:
    """The first 16 bytes of an init: type, version, credential kind, suite, index, credential."""
    form = suite | _HYBRID_SUITE if hybrid else suite
    return _INIT_CLEAR.pack(INIT, VERSION, credential.kind, form, sender_index, credential.id)


def decode_init_untrusted(datagram: bytes) -> InitHeader:
    hybrid = len(datagram) == HYBRID_INIT_SIZE
    if not hybrid and len(datagram) != INIT_SIZE:
        raise BadPacket("malformed")
    _, version, kind, suite, index, credential_id = _INIT_CLEAR.unpack_from(datagram)
    if version != VERSION:
        raise BadPacket("bad_version")
    try:
        credential = Credential(CredentialKind(kind), credential_id)
        chosen = Suite(suite - _HYBRID_SUITE if hybrid else suite)
    except ValueError:
        raise BadPacket("malformed") from None
    return InitHeader(
        credential=credential,
        suite=chosen,
        sender_index=index,
        clear=datagram[:INIT_CLEAR_SIZE],
        noise=datagram[INIT_CLEAR_SIZE:-MACS_SIZE],
        mac1=datagram[-MACS_SIZE : -MACS_SIZE // 2],
        hybrid=hybrid,
    )


def decode_init_payload_untrusted(payload: bytes) -> InitPayload:
    """The payload of an init of either form, whose size is its form's."""
    if len(payload) not in (_INIT_PAYLOAD.size, HYBRID_PAYLOAD_SIZE):
        raise BadPacket("malformed")
    whole = payload.ljust(_INIT_PAYLOAD.size, b"\0")
    timestamp, cookie, resume, mtu, window, slices, takes = _INIT_PAYLOAD.unpack(whole)
    parity, hybrid = bool(takes & _TAKES_PARITY), bool(takes & _TAKES_HYBRID)
    decoded = InitPayload(timestamp, cookie, resume, mtu, window, slices, parity, hybrid)
    _check_parameters(decoded.kcp_mtu, decoded.receive_window, decoded.max_slices)
    return decoded


def encode_response(
    sender_index: int, receiver_index: int, noise: bytes, *, hybrid: bool = False
) -> bytes:
    """A response without its MACs; `noise` is 96 bytes, 1,200 of a hybrid one."""
    clear = _RESPONSE_CLEAR.pack(RESPONSE, VERSION, hybrid, sender_index, receiver_index)
    return clear + noise


def decode_response_untrusted(datagram: bytes) -> ResponseHeader:
    hybrid = len(datagram) == HYBRID_RESPONSE_SIZE
    if not hybrid and len(datagram) != RESPONSE_SIZE:
        raise BadPacket("malformed")
    _, version, form, sender, receiver = _RESPONSE_CLEAR.unpack_from(datagram)
    if version != VERSION:
        raise BadPacket("bad_version")
    if form != hybrid:
        raise BadPacket("malformed")
    noise = datagram[_RESPONSE_CLEAR.size : -MACS_SIZE]
    return ResponseHeader(sender, receiver, noise, hybrid)


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
        bool(takes & _TAKES_HYBRID),
    )


def _check_parameters(kcp_mtu: int, receive_window: int, max_slices: int) -> None:
    if kcp_mtu < MIN_KCP_MTU or receive_window < 128 or not max_slices:
        raise BadPacket("malformed")


# --- Handshakes in slices ------------------------------------------------------------------------

SLICE_ID_SIZE: Final = 8
SLICE_PIECE_SIZE: Final = HANDSHAKE_SLICE_SIZE - _SLICE.size - MACS_SIZE
_SLICED_SIZES: Final = {INIT_SLICE: HYBRID_INIT_SIZE, RESPONSE_SLICE: HYBRID_RESPONSE_SIZE}


@frozen
class HandshakeSlice:
    """One of a few datagrams that carry an init or a response."""

    kind: int  # INIT_SLICE or RESPONSE_SLICE
    number: int  # from 0
    count: int
    sender_index: int  # the initiator's, who sent the init that this is, or that this answers
    id: bytes  # 8 bytes, the same in all slices of one message
    piece: bytes  # 500 bytes; the last one is the rest
    mac1: bytes = bytes(16)

    def encode(self) -> bytes:
        """Without its MACs."""
        head = _SLICE.pack(self.kind, VERSION, self.number, self.count, self.sender_index, self.id)
        return head + self.piece


def cut_handshake(kind: int, index: int, chosen_id: bytes, message: bytes) -> list[HandshakeSlice]:
    """The slices of a whole init or response, its MACs included."""
    pieces = [
        message[start : start + SLICE_PIECE_SIZE]
        for start in range(0, len(message), SLICE_PIECE_SIZE)
    ]
    return [
        HandshakeSlice(kind, number, len(pieces), index, chosen_id, piece)
        for number, piece in enumerate(pieces)
    ]


def decode_slice_untrusted(datagram: bytes) -> HandshakeSlice:
    """A datagram of type 8 or 9."""
    if len(datagram) < _SLICE.size + MACS_SIZE:
        raise BadPacket("malformed")
    kind, version, number, count, index, chosen_id = _SLICE.unpack_from(datagram)
    if version != VERSION:
        raise BadPacket("bad_version")
    piece = datagram[_SLICE.size : -MACS_SIZE]
    # Nothing else can be whole; nor is a slice of an init smaller than the cookie that it asks for.
    whole = _SLICED_SIZES.get(kind)
    if whole is None:
        raise BadPacket("malformed")
    expected = min(SLICE_PIECE_SIZE, whole - number * SLICE_PIECE_SIZE)
    if count != -(-whole // SLICE_PIECE_SIZE) or len(piece) != expected:
        raise BadPacket("malformed")
    mac1 = datagram[-MACS_SIZE : -MACS_SIZE // 2]
    return HandshakeSlice(kind, number, count, index, chosen_id, piece, mac1)


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
