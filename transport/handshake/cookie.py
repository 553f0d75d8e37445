"""MACs and cookies in front of the handshake: no work for strangers, none for forged addresses.

The scheme is WireGuard's (white paper sections 5.4.4 and 5.4.7). Every handshake packet ends in
mac1 and mac2, 16 bytes each. mac1 proves that the sender knows the receiver's public key; it
costs a hash to check. mac2 proves that the sender can read at its address: its key is a cookie,
a MAC of that address under a secret that changes every 120 s, so the receiver keeps no state.

    mac1   = BLAKE2s-128(key = BLAKE2s("mac1----" | receiver's public key), packet before mac1)
    cookie = BLAKE2s-128(key = secret, source)
    mac2   = BLAKE2s-128(key = cookie, packet before mac2)

A cookie travels sealed in a reply of 64 bytes (type 3), smaller than the init that caused it:
`u8 3 | u8 1 | u16 0 | u32 receiver index LE | 24 nonce | 32 sealed cookie`, sealed with
ChaCha20-Poly1305 under BLAKE2s(key = BLAKE2s("cookie--" | receiver's public key), nonce), AEAD
nonce zero, associated data = mac1 of the packet that it answers.

Invariants: comparisons take constant time. A cookie is accepted for at least 120 s and less than
240 s. A stamper takes at most one reply for each packet that it stamped, and none for those before.

Error contract: `*_untrusted` raise `BadPacket` and nothing else; each says with which reasons.
"""

from __future__ import annotations

import secrets
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2s
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from transport.constants import COOKIE_REPLY_SIZE, VERSION
from transport.errors import BadPacket
from transport.wire.datagrams import COOKIE

MAC_BYTES: Final = 16  # each of mac1, mac2 and a cookie
COOKIE_ROTATION: Final = 120.0  # s between new secrets; the one before stays valid as long
COOKIE_FRESH: Final = COOKIE_ROTATION - 5.0  # s for which a client uses one; 5 s for the way
# Packets whose replies are taken: a long way must not make a reply come too late. Four inits, of
# which one in slices is four packets.
STAMPS_KEPT: Final = 16

_REPLY: Final = struct.Struct("<BBHI24s32s")
_NONCE_BYTES: Final = 24  # random nonces of this size do not repeat
_SECRET_BYTES: Final = 32
_AEAD_NONCE: Final = bytes(12)  # every reply has its own AEAD key
_NO_MAC: Final = bytes(MAC_BYTES)

RandomBytes = Callable[[int], bytes]


def _mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def _mac1_key(key_public: bytes) -> bytes:
    return blake2s(b"mac1----" + key_public).digest()


def _cookie_aead(key_public: bytes, nonce: bytes) -> ChaCha20Poly1305:
    key = blake2s(b"cookie--" + key_public).digest()
    return ChaCha20Poly1305(blake2s(nonce, key=key).digest())


def mac1(key_public: bytes, data: bytes) -> bytes:
    """The 16 bytes that follow `data` in a packet to the owner of the 32-byte `key_public`."""
    return _mac(_mac1_key(key_public), data)


def check_mac1_untrusted(key_public: bytes, packet: bytes) -> None:
    """Check the mac1 of a whole handshake packet that came to the owner of `key_public`.

    Raises:
        BadPacket: `bad_mac1`.
    """
    _check_mac1_untrusted(_mac1_key(key_public), packet)


def _check_mac1_untrusted(key: bytes, packet: bytes) -> None:
    expected = _mac(key, packet[: -2 * MAC_BYTES])
    # A packet shorter than its macs has no 16 bytes there, so the comparison fails.
    if not compare_digest(expected, packet[-2 * MAC_BYTES : -MAC_BYTES]):
        raise BadPacket("bad_mac1")


class CookieJar:
    """The receiver's side: checks macs, hands out and accepts cookies. Size: constant.

    Args:
        key_public: the 32-byte public key of the receiver itself.
        random_bytes: source of secrets and nonces.
    """

    __slots__ = ("_mac1_key", "_previous", "_public", "_random", "_secret", "_since")

    def __init__(self, key_public: bytes, random_bytes: RandomBytes = secrets.token_bytes) -> None:
        self._public = key_public
        self._mac1_key = _mac1_key(key_public)
        self._random = random_bytes
        self._secret = random_bytes(_SECRET_BYTES)
        self._previous = random_bytes(_SECRET_BYTES)  # nobody knows it: accepts nothing
        self._since: float | None = None

    def check_mac1_untrusted(self, packet: bytes) -> None:
        """Check the mac1 of a whole handshake packet.

        Raises:
            BadPacket: `bad_mac1`.
        """
        _check_mac1_untrusted(self._mac1_key, packet)

    def check_mac2(self, packet: bytes, source: bytes, now: float) -> bool:
        """Did whoever sent this packet read a cookie at this address?

        Args:
            packet: the whole handshake packet; its mac1 has been checked.
            source: packed address and port that it came from.
            now: seconds, monotonic.
        """
        if packet.endswith(_NO_MAC):
            return False
        self._rotate(now)
        body, seen = packet[:-MAC_BYTES], packet[-MAC_BYTES:]
        current = compare_digest(_mac(_mac(self._secret, source), body), seen)
        previous = compare_digest(_mac(_mac(self._previous, source), body), seen)
        return current or previous

    def cookie_for(self, source: bytes, now: float) -> bytes:
        """The 16-byte cookie of an address (packed address and port) under today's secret."""
        self._rotate(now)
        return _mac(self._secret, source)

    def accepts(self, source: bytes, cookie: bytes, now: float) -> bool:
        """Is this the cookie of that address, under the current or the previous secret?"""
        self._rotate(now)
        current = compare_digest(_mac(self._secret, source), cookie)
        previous = compare_digest(_mac(self._previous, source), cookie)
        return current or previous

    def reply(self, mac1: bytes, receiver_index: int, source: bytes, now: float) -> bytes:
        """The 64-byte datagram that tells an address its cookie.

        Args:
            mac1: the 16 bytes from the packet that is answered.
            receiver_index: the sender index of that packet, 32 bits.
            source: packed address and port that it came from.
            now: seconds, monotonic.
        """
        nonce = self._random(_NONCE_BYTES)
        cookie = self.cookie_for(source, now)
        sealed = _cookie_aead(self._public, nonce).encrypt(_AEAD_NONCE, cookie, mac1)
        return _REPLY.pack(COOKIE, VERSION, 0, receiver_index, nonce, sealed)

    def _rotate(self, now: float) -> None:
        if self._since is None:
            self._since = now
        periods = int((now - self._since) // COOKIE_ROTATION)
        if periods < 1:
            return
        self._since += periods * COOKIE_ROTATION
        self._previous = self._secret if periods == 1 else self._random(_SECRET_BYTES)
        self._secret = self._random(_SECRET_BYTES)


class MacStamper:
    """The sender's side: puts macs on handshake packets and keeps the receiver's cookie.

    Args:
        key_public: the 32-byte public key of the receiver.
    """

    __slots__ = ("_cookie", "_cookie_since", "_mac1_key", "_public", "_stamped")

    def __init__(self, key_public: bytes) -> None:
        self._public = key_public
        self._mac1_key = _mac1_key(key_public)
        self._stamped: deque[bytes] = deque(maxlen=STAMPS_KEPT)  # mac1s, the newest first
        self._cookie = b""
        self._cookie_since: float | None = None

    def stamp(self, packet: bytes, now: float) -> bytes:
        """The packet with mac1 and mac2 behind it; mac2 is zeros without a fresh cookie."""
        mac1 = _mac(self._mac1_key, packet)
        self._stamped.appendleft(mac1)
        packet += mac1
        cookie = self.cookie(now)
        return packet + (_NO_MAC if cookie is None else _mac(cookie, packet))

    def consume_reply_untrusted(self, datagram: bytes, now: float) -> bytes:
        """Take the cookie out of a type 3 datagram that answers one of the last stamped packets.

        The receiver index is the caller's to check; the mac1 binds the reply to the packet.

        Returns: the mac1 of that packet.

        Raises:
            BadPacket: `malformed`, `bad_version`, `unexpected` where no packet waits for a
                reply, `bad_handshake` where it does not open. The state is as before.
        """
        if len(datagram) != COOKIE_REPLY_SIZE:
            raise BadPacket("malformed")
        kind, version, zero, _index, nonce, sealed = _REPLY.unpack(datagram)
        if kind != COOKIE or zero:
            raise BadPacket("malformed")
        if version != VERSION:
            raise BadPacket("bad_version")
        if not self._stamped:
            raise BadPacket("unexpected")
        cipher = _cookie_aead(self._public, nonce)
        for mac1 in self._stamped:
            with suppress(InvalidTag):
                self._cookie = cipher.decrypt(_AEAD_NONCE, sealed, mac1)
                break
        else:
            raise BadPacket("bad_handshake")
        # Once only: a repeated reply must not make an old cookie look fresh.
        self._stamped.clear()
        self._cookie_since = now
        return mac1

    def cookie(self, now: float) -> bytes | None:
        """The cookie to stamp with and to echo, None where none is younger than 115 s."""
        since = self._cookie_since
        return self._cookie if since is not None and 0 <= now - since < COOKIE_FRESH else None
