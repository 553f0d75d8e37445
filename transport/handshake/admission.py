"""Admission of inits: how much work one may cause before its sender has proven anything.

In this order, cheapest first: length and version; mac1, which only who knows our public key can
make; whether it was answered already, which costs nothing again; a small token bucket per address,
and under load none, for who has not proven that it can read there, and one that all share fairly
for who has, with mac2; one X25519 for the sender's key; the look-up, which meets strangers with
silence; another X25519 that proves key and credential; freshness; for who gets an answer with which
nothing begins (refused, full, session lost), a second since the last one. What passes is answered
with a response smaller than the init, and nothing has changed yet. Only that answer costs an
encapsulation, where the init was a hybrid one.

A slice of an init is kept for who has proven its address, and nobody else (`slices.py`); the init,
once it is whole, goes the same way as any other.

Freshness does not rest on clocks: an init that is not newer than the peer's last confirmed one
gets a cookie, and is accepted when it comes back with the cookie under its seal.

We may have several identities for a while: mac1 tells which one an init is for, and the cookies of
each are its own. A stranger costs one hash more for each.

Error contract: `admit_untrusted` raises `BadPacket` with the reason to count, or `ReplyDue` with
the reply to send besides.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from attrs import define, frozen

from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum
from transport.crypto.noise import NO_PSK
from transport.errors import BadPacket
from transport.handshake.attempt import INIT_COPIES
from transport.handshake.cookie import CookieJar
from transport.handshake.messages import InitReader
from transport.handshake.slices import SliceTable
from transport.ratelimit import BucketTable, FairBucket, TokenBucket, address_key
from transport.wire.datagrams import (
    Credential,
    HandshakeSlice,
    InitHeader,
    InitPayload,
    Result,
    decode_init_untrusted,
    decode_slice_untrusted,
)
from transport.wire.trains import Address

CONFIRMED_TIMESTAMPS: Final = 8192  # remembered peers, least recently confirmed forgotten first
HANDSHAKES_PER_ADDRESS: Final = 20.0  # a second, per IPv4 address or IPv6 /64
HANDSHAKE_BURST_PER_ADDRESS: Final = 5.0
# The same for all who have shown with mac2 that they read at their address. One that is answered
# costs about 0.25 ms, and its way through the kernel 0.03 ms: a quarter of a core; and a thousand
# members that come back together are in after two round trips.
PROVEN_HANDSHAKES: Final = 800.0
PROVEN_HANDSHAKE_BURST: Final = 1000.0
# Seconds for which an address is held to what it has used of them. All members of one site come
# from one address, twice each if the switch has lost their sessions: alone it gets half of them at
# once, and 400 a second.
PROVEN_MEMORY: Final = 2.5
# An honest initiator sends an init so often, and needs the answer once: each is answered with the
# same bytes, and no more than that. They come within half a second, in which fewer are answered.
ANSWERED_INITS: Final = 1000  # remembered, the oldest forgotten first; 2 kB each
ANSWERS_PER_INIT: Final = max(INIT_COPIES)
# Answers a second with which nothing begins, such as a refusal, for each key; and as many again for
# who has shown besides that it reads at its address: a recorded init must not use those up. So
# many to plain inits and to hybrid ones: a no to the one form must not keep back that to the other.
REFUSALS_PER_KEY: Final = 1.0
# Beyond this many handshakes in a second all must prove their address (mac2): 3 % of a core.
LOAD_THRESHOLD: Final = 100.0
COOKIE_REPLIES_PER_ADDRESS: Final = 200.0  # 13 kB/s; an honest member behind it needs one
# A cookie costs about as much as looking at the init that it answers (10 µs), and in a flood of
# forged inits somebody honest gets in with the share of them that is answered.
COOKIE_REPLIES_TOTAL: Final = 10_000.0


@frozen
class Grant:
    """What the authority knows of a key or credential."""

    psk: bytes = NO_PSK
    result: Result = Result.OK  # anything else is told to the peer, which has proven its key


class Authority(Protocol):
    """Who may connect. Asked before the peer has proven anything: must be quick and pure."""

    def look_up(self, peer: PublicKey, credential: Credential) -> Grant | None:
        """The grant for a key that shows a credential; None for strangers: no answer at all."""


@frozen(eq=False)
class Own:
    """An identity of ours, and its cookies."""

    identity: PrivateKey
    jar: CookieJar


@frozen
class Admitted:
    """An authentic, fresh init of somebody known."""

    own: Own  # that it is for
    header: InitHeader
    reader: InitReader
    peer: PublicKey
    payload: InitPayload
    result: Result
    proven_address: bool  # it carried a cookie


@define(eq=False)
class _Answer:
    """What an init was answered with."""

    response: tuple[bytes, ...]
    until: float  # it is good
    left: int  # how often it is given again


class ReplyDue(BadPacket):
    """Nothing new, but this is to be sent: a cookie to come back with, or the same answer again."""

    def __init__(self, reason: str, *replies: bytes) -> None:
        super().__init__(reason)
        self.replies = replies


def _source(address: Address) -> bytes:
    """What a cookie is bound to: host and port."""
    return f"{address[0]} {address[1]}".encode()


class Admission:
    """The gate of one endpoint."""

    def __init__(
        self,
        identity: PrivateKey,
        authority: Authority,
        now: float,
        random_bytes: Callable[[int], bytes],
        post_quantum: PostQuantum = PostQuantum.AUTO,
    ) -> None:
        self._takes_hybrid = post_quantum is not PostQuantum.OFF
        self._authority = authority
        self._random = random_bytes
        self._own = [Own(identity, CookieJar(identity.public.raw, random_bytes))]
        self._addresses = BucketTable(HANDSHAKES_PER_ADDRESS, HANDSHAKE_BURST_PER_ADDRESS)
        self._proven = FairBucket(PROVEN_HANDSHAKES, PROVEN_HANDSHAKE_BURST, PROVEN_MEMORY, now)
        self._calm = TokenBucket(LOAD_THRESHOLD, LOAD_THRESHOLD, now)
        self._replies = TokenBucket(COOKIE_REPLIES_TOTAL, COOKIE_REPLIES_TOTAL, now)
        self._replies_each = BucketTable(COOKIE_REPLIES_PER_ADDRESS, COOKIE_REPLIES_PER_ADDRESS)
        self._refusals = BucketTable(REFUSALS_PER_KEY, REFUSALS_PER_KEY)
        self._confirmed: OrderedDict[bytes, int] = OrderedDict()
        self._answers: OrderedDict[tuple[bytes, Address], _Answer] = OrderedDict()
        self._slices = SliceTable()

    def set_identities(self, identities: Sequence[PrivateKey]) -> None:
        """As `Endpoint.set_identities`. Cookies of those that stay are good as before."""
        known = {own.identity.public: own for own in self._own}
        self._own = [
            known.get(each.public) or Own(each, CookieJar(each.public.raw, self._random))
            for each in identities
        ]

    def _asked_untrusted(self, datagram: bytes) -> Own:
        for own in self._own[:-1]:
            with suppress(BadPacket):
                own.jar.check_mac1_untrusted(datagram)
                return own
        self._own[-1].jar.check_mac1_untrusted(datagram)
        return self._own[-1]

    def admit_untrusted(self, datagram: bytes, address: Address, now: float) -> Admitted:
        """What an init from `address` is worth."""
        header = decode_init_untrusted(datagram)
        if header.hybrid and not self._takes_hybrid:
            raise BadPacket("hybrid_off")
        own = self._asked_untrusted(datagram)
        # By address too: a copy that came from elsewhere, faster, must not stand for the original.
        answer = self._answers.get((header.mac1, address))
        if answer is not None:
            raise self._again(answer, now)
        source, key = _source(address), address_key(address[0])
        if own.jar.check_mac2(datagram, source, now):
            if not self._proven.allow(now, key):
                raise BadPacket("proven_limited")
        elif not self._addresses.allow(key, now):
            raise self._cookie_for(own, header, "rate_limited", source, key, now)
        elif not self._calm.allow(now):
            raise self._cookie_for(own, header, "bad_mac2", source, key, now)
        reader = InitReader(own.identity, header)
        peer = reader.read_peer_untrusted()
        grant = self._authority.look_up(peer, header.credential)
        if grant is None:
            raise BadPacket("unknown_peer")
        payload = reader.read_payload_untrusted(grant.psk)
        proven = own.jar.accepts(source, payload.cookie_echo, now)
        if not proven and payload.timestamp_ns <= self._confirmed.get(peer.raw, -1):
            raise self._cookie_for(own, header, "stale_timestamp", source, key, now)
        return Admitted(own, header, reader, peer, payload, grant.result, proven)

    def add_slice_untrusted(self, datagram: bytes, address: Address, now: float) -> bytes | None:
        """The whole init, once its last slice has come; not looked at yet."""
        piece = decode_slice_untrusted(datagram)
        if not self._takes_hybrid:
            raise BadPacket("hybrid_off")
        own = self._asked_untrusted(datagram)
        source, key = _source(address), address_key(address[0])
        if not own.jar.check_mac2(datagram, source, now):
            raise self._cookie_for(own, piece, "slice_unproven", source, key, now)
        return self._slices.add(piece, address, key, now)

    def refuse(self, admitted: Admitted, address: Address, now: float) -> None:
        """Nothing begins with the answer to this init; raises `BadPacket` if it is to get none."""
        proven = admitted.proven_address
        kind = bytes((proven, admitted.header.hybrid))
        if self._refusals.allow(admitted.peer.raw + kind, now):
            return
        if proven:
            raise BadPacket("refusal_limited")
        raise self.cookie_for(admitted.own, admitted.header, "refusal_limited", address, now)

    def answered(
        self, header: InitHeader, address: Address, response: tuple[bytes, ...], until: float
    ) -> None:
        """An init was answered so; copies of it get the same, until then."""
        self._answers[header.mac1, address] = _Answer(response, until, ANSWERS_PER_INIT - 1)
        if len(self._answers) > ANSWERED_INITS:
            self._answers.popitem(last=False)

    @staticmethod
    def _again(answer: _Answer, now: float) -> BadPacket:
        if not answer.left or now >= answer.until:
            return BadPacket("repeated_init")
        answer.left -= 1
        return ReplyDue("repeated_init", *answer.response)

    def cookie_for(
        self, own: Own, header: InitHeader, reason: str, address: Address, now: float
    ) -> BadPacket:
        """The refusal of an init for a reason that a proof of address mends."""
        source, key = _source(address), address_key(address[0])
        return self._cookie_for(own, header, reason, source, key, now)

    def _cookie_for(
        self,
        own: Own,
        header: InitHeader | HandshakeSlice,
        reason: str,
        source: bytes,
        key: bytes,
        now: float,
    ) -> BadPacket:
        # HOT PATH of a flood
        if not self._replies_each.allow(key, now) or not self._replies.allow(now):
            return BadPacket("cookie_limited")
        reply = own.jar.reply(header.mac1, header.sender_index, source, now)
        return ReplyDue(reason, reply)

    def confirmed(self, peer: PublicKey, timestamp_ns: int) -> None:
        """The peer has used the keys of an init with this timestamp."""
        newest = max(timestamp_ns, self._confirmed.pop(peer.raw, 0))
        self._confirmed[peer.raw] = newest
        if len(self._confirmed) > CONFIRMED_TIMESTAMPS:
            self._confirmed.popitem(last=False)
