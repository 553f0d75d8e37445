"""One handshake of the initiator: send an init, retransmit, until an answer or the deadline.

Used for the first handshake and for every rekey. Retries come after 0.5, 1, 1.5, 1.5 s with jitter,
each with a new ephemeral key; an answer to any of the last four is good, so that a long round trip
does not matter. Retries leave in several copies, a moment apart: what was not answered may have
been lost, or a flood of others may leave little room for it. A cookie reply is answered at once,
and its cookie is put under the seal as well, which also makes up for a clock that went backwards.

Pure; `now` in monotonic seconds, `timestamp_ns` is the caller's wall clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from attrs import frozen

from transport.constants import KCP_MTU, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.identity import PrivateKey
from transport.errors import BadPacket
from transport.handshake.cookie import MacStamper, check_mac1_untrusted
from transport.handshake.messages import Initiation, Peer
from transport.session.keyring import KeyPair
from transport.wire.datagrams import InitPayload, ResponsePayload, Suite, decode_response_untrusted
from transport.wire.trains import Address, PipeAddress

HANDSHAKE_RETRY_FIRST: Final = 0.5
# A path that heals is found within this time; 232 bytes each. Across attempts the caller backs off.
HANDSHAKE_RETRY_CAP: Final = 1.5
HANDSHAKES_KEPT: Final = 4  # inits whose answers are taken: round trips up to 4 s
# How often the first, second and later inits without an answer are sent. A responder in a flood
# looks at a share of them: of three in ten, all thirteen of two seconds are lost once in a hundred
# times. One with a cookie costs the responder a key exchange, and is seldom dropped.
INIT_COPIES: Final = (1, 4, 8)
PROVEN_COPIES: Final = (1, 2, 4)
# Between copies of an init: more than the time in which network cards and kernels join datagrams,
# so that each has its own chance; and what HANDSHAKES_PER_ADDRESS allows.
COPY_INTERVAL: Final = 0.05
HANDSHAKE_RETRY_JITTER: Final = 0.3  # ± share, so that a crowd does not come back in step


@frozen
class Agreed:
    """The responder's answer, and the keys if it is a yes."""

    response: ResponsePayload
    pair: KeyPair


class Negotiation:
    """One attempt at a session with one peer at one address."""

    def __init__(
        self,
        identity: PrivateKey,
        peer: Peer,
        suite: Suite,
        *,
        address: Address,
        index: int,
        resume: int,
        stamper: MacStamper,
        now: float,
        give_up_at: float,
        jitter: Callable[[], float],
        timestamp_ns: Callable[[], int],
    ) -> None:
        """`resume`: the association to go on with, 0 for a new one; `jitter` in [-1, 1]."""
        self.peer = peer
        self.address = address
        self.index = index
        self.resume = resume
        self.give_up_at = give_up_at
        self.timer: float | None = None  # of the demux's heap, as in Session
        self.entry: float | None = None
        self._identity = identity
        self._suite = suite
        self._stamper = stamper
        self._jitter = jitter
        self._timestamp_ns = timestamp_ns
        self._initiations: deque[Initiation] = deque(maxlen=HANDSHAKES_KEPT)  # newest first
        self._retry = HANDSHAKE_RETRY_FIRST
        self._send_at = now
        self.sent = 0  # inits
        self._unanswered = 0  # of those, in a row
        self._newest = b""  # of those
        self._copies = 0  # of it, that are still to be sent
        self._copy_at = inf  # when the next is

    def datagram_to_send(self, now: float) -> bytes | None:
        """An init, when one is due."""
        if now >= self.give_up_at or now < min(self._send_at, self._copy_at):
            return None
        if now >= self._send_at:
            self._newest = self._init(now)
        else:
            self._copies -= 1
        self._copy_at = now + COPY_INTERVAL if self._copies else inf
        return self._newest

    def _init(self, now: float) -> bytes:
        """A new one."""
        cookie = self._stamper.cookie(now)
        copies = INIT_COPIES if cookie is None else PROVEN_COPIES
        self._copies = copies[min(self._unanswered, len(copies) - 1)] - 1
        if isinstance(self.address, PipeAddress):
            self._copies = 0  # it loses none
        self._send_at = now + self._retry * (1 + HANDSHAKE_RETRY_JITTER * self._jitter())
        self._retry = min(HANDSHAKE_RETRY_CAP, 2 * self._retry)
        self.sent += 1
        self._unanswered += 1
        initiation = Initiation(self._identity, self.peer, self._suite, self.index)
        self._initiations.appendleft(initiation)
        payload = InitPayload(
            timestamp_ns=self._timestamp_ns(),
            cookie_echo=cookie or bytes(16),
            resume=self.resume,
            kcp_mtu=KCP_MTU,
            receive_window=RECEIVE_WINDOW,
            max_slices=MAX_SLICES,
            takes_parity=True,
        )
        return self._stamper.stamp(initiation.init(payload), now)

    def receive_response_untrusted(self, datagram: bytes, now: float) -> Agreed:
        header = decode_response_untrusted(datagram)
        check_mac1_untrusted(self._identity.public.raw, datagram)
        refused = BadPacket("unexpected")
        for initiation in self._initiations:
            try:
                return Agreed(*initiation.read_response_untrusted(header, now))
            except BadPacket as bad:
                refused = bad
        raise refused

    def receive_cookie_untrusted(self, datagram: bytes, now: float) -> None:
        """Take the cookie and try again at once, with it."""
        self._stamper.consume_reply_untrusted(datagram, now)
        self._retry = HANDSHAKE_RETRY_FIRST  # it was heard, and a new question begins
        self._begin_again(now)

    def hurry(self, now: float) -> None:
        """There is reason to think that an init would be answered now."""
        self._begin_again(now)

    def _begin_again(self, now: float) -> None:
        self._send_at = min(self._send_at, now)
        self._unanswered = self._copies = 0
        self._copy_at = inf

    def deadline(self) -> float:
        return min(self._send_at, self._copy_at, self.give_up_at)
