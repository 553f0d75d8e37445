"""One handshake of the initiator: send an init, retransmit, until an answer or the deadline.

Used for the first handshake and for every rekey. Retries come after 0.5, 1, 1.5, 1.5 s with jitter,
each with a new ephemeral key; an answer to any of the last four is good, so that a long round trip
does not matter. Only slices with a cookie are sent again as they were, for some seconds, since the
responder keeps those that have come. Retries leave in several copies, a moment apart: what was not
answered may have been lost, or a flood of others may leave little room for it. A cookie reply is
answered at once, and its cookie is put under the seal as well, which also makes up for a clock that
went backwards.

An init has one of three forms: hybrid and whole, hybrid in slices, or plain. A peer that may be old
by now knows plain ones alone, so as long as nothing is heard each second one is plain. Each answer
says, under the peer's seal, whether it takes hybrid inits: who does never begins a session with a
plain one whose sender does, too, but asks for the other form. Then the hybrid init that was sent
before has not got through, and the next one goes in slices, or whole if that one did not. From then
on the two hybrid forms take turns; once a hybrid one was answered with a cookie, they do so with
the plain one.

Pure; `now` in monotonic seconds, `timestamp_ns` is the caller's wall clock.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

from attrs import define, frozen

from transport.constants import KCP_MTU, MACS_SIZE, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.errors import BadPacket
from transport.handshake.cookie import MAC_BYTES, MacStamper, check_mac1_untrusted
from transport.handshake.messages import Initiation, Peer
from transport.handshake.slices import SLICE_LIFETIME, SliceTable
from transport.session.keyring import KeyPair
from transport.wire.datagrams import (
    INIT_SLICE,
    SLICE_ID_SIZE,
    InitPayload,
    ResponsePayload,
    Result,
    Suite,
    cut_handshake,
    decode_response_untrusted,
    decode_slice_untrusted,
)
from transport.wire.trains import Address, PipeAddress

HANDSHAKE_RETRY_FIRST: Final = 0.5
# A path that heals is found within this time. Across attempts the caller backs off.
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
# One of so many inits is plain: while nothing is heard; after a cookie for a hybrid one, which who
# reads the path can make as well; once the peer has said under its seal that it takes those.
OFTEN: Final = 2
SELDOM: Final = 4
NEVER: Final = 1 << 30
SLICED_ANSWERS: Final = 4  # responses of which some slices are kept
# Seconds for which an init in slices that has no answer is sent again, and not a new one: of all
# copies together each slice has to come through once.
SLICES_AGAIN: Final = SLICE_LIFETIME - 0.5


class Form(enum.Enum):
    """What an init looks like."""

    WHOLE = enum.auto()  # hybrid, one datagram of 1,416 bytes
    SLICED = enum.auto()  # the same in up to 548 bytes each
    PLAIN = enum.auto()  # X25519 alone, 232 bytes


@define
class Forms:
    """What is known of a peer and the way to it; outlives a negotiation."""

    taken: bool = True  # whether it takes hybrid inits, as far as it has said
    sliced: bool = False  # whole ones do not get through


@frozen
class Agreed:
    """The responder's answer, and the keys if it is a yes."""

    response: ResponsePayload
    pair: KeyPair


@frozen(eq=False)
class _Asked:
    """An init that was sent."""

    initiation: Initiation
    form: Form
    datagrams: Sequence[bytes]
    cookie: bytes | None  # that they carry
    at: float  # when it left first


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
        random_bytes: Callable[[int], bytes],
        timestamp_ns: Callable[[], int],
        post_quantum: PostQuantum = PostQuantum.AUTO,
        forms: Forms | None = None,
    ) -> None:
        """`resume`: the association to go on with, 0 for a new one."""
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
        self._random = random_bytes
        self._timestamp_ns = timestamp_ns
        self._offers = post_quantum is not PostQuantum.OFF
        self._forms = Forms() if forms is None else forms
        self._form: Form | None = None  # of the newest init
        self._again: Form | None = None  # for the next one: this one has been heard
        self._turn = 0  # of the forms
        self._whole_fits = True  # as far as the interface has said
        self._tried: Form | None = None  # the newest hybrid one
        self._heard_at = -inf  # when a cookie has last made it begin again
        self._plain = OFTEN  # one of so many inits is a plain one
        self._answers = SliceTable(SLICED_ANSWERS)
        self._asked: deque[_Asked] = deque(maxlen=HANDSHAKES_KEPT)  # newest first
        self._retry = HANDSHAKE_RETRY_FIRST
        self._send_at = now
        self.sent = 0  # inits
        self._unanswered = 0  # of those, in a row
        self._copies = 0  # of it, that are still to be sent
        self._copy_at = inf  # when the next is

    def datagrams_to_send(self, now: float) -> Sequence[bytes]:
        """An init, when one is due: one datagram, or its slices."""
        if now >= self.give_up_at or now < min(self._send_at, self._copy_at):
            return ()
        if now >= self._send_at:
            asked = self._init(now)
            with suppress(ValueError):
                self._asked.remove(asked)
            self._asked.appendleft(asked)
        else:
            self._copies -= 1
        self._copy_at = now + COPY_INTERVAL if self._copies else inf
        return self._asked[0].datagrams

    def _init(self, now: float) -> _Asked:
        """A new one, or slices again, of which some may have come through."""
        cookie = self._stamper.cookie(now)
        form = self._again or self._next_form()
        self._form, self._again = form, None
        copies = PROVEN_COPIES if cookie is not None and form is not Form.SLICED else INIT_COPIES
        self._copies = copies[min(self._unanswered, len(copies) - 1)] - 1
        if isinstance(self.address, PipeAddress):
            self._copies = 0  # it loses none
        self._send_at = now + self._retry * (1 + HANDSHAKE_RETRY_JITTER * self._jitter())
        self._retry = min(HANDSHAKE_RETRY_CAP, 2 * self._retry)
        self.sent += 1
        self._unanswered += 1
        hybrid = form is not Form.PLAIN
        if hybrid:
            self._tried = form
        if form is Form.SLICED and cookie is not None:
            for asked in self._asked:
                if asked.form is form and asked.cookie == cookie and now < asked.at + SLICES_AGAIN:
                    return asked
        initiation = Initiation(self._identity, self.peer, self._suite, self.index, hybrid=hybrid)
        payload = InitPayload(
            timestamp_ns=self._timestamp_ns(),
            cookie_echo=cookie or bytes(16),
            resume=self.resume,
            kcp_mtu=KCP_MTU,
            receive_window=RECEIVE_WINDOW,
            max_slices=MAX_SLICES,
            takes_parity=True,
            takes_hybrid=self._offers,
        )
        init = self._stamper.stamp(initiation.init(payload), now)
        if form is not Form.SLICED:
            return _Asked(initiation, form, (init,), cookie, now)
        slices = cut_handshake(INIT_SLICE, self.index, self._random(SLICE_ID_SIZE), init)
        # Without a cookie none of them is kept: the first asks for one.
        leaving = slices[:1] if cookie is None else slices
        datagrams = [self._stamper.stamp(each.encode(), now) for each in leaving]
        return _Asked(initiation, form, datagrams, cookie, now)

    def _jitter(self) -> float:
        """From -1 to 1."""
        return int.from_bytes(self._random(4), "little") / 2**31 - 1

    def _next_form(self) -> Form:
        turn = self._turn
        self._turn += 1
        if not self._offers or not self._forms.taken or turn % self._plain == self._plain - 1:
            return Form.PLAIN
        if isinstance(self.address, PipeAddress):
            return Form.WHOLE
        sliced = self._forms.sliced != bool(turn % 2)
        return Form.SLICED if sliced or not self._whole_fits else Form.WHOLE

    def too_big(self, now: float) -> bool:
        """The interface does not take a whole init; whether this one has tried that."""
        if self._form is not Form.WHOLE:
            return False
        self._whole_fits = False
        self._turn = 0
        self._begin_again(now)
        return True

    def go_hybrid(self, now: float) -> None:
        """The peer wants another form than the plain init that it has answered."""
        if not isinstance(self.address, PipeAddress):
            self._forms.sliced = self._tried is Form.WHOLE
        self._turn, self._plain = 0, NEVER
        self._begin_again(now)

    def receive_slice_untrusted(self, datagram: bytes, now: float) -> bytes | None:
        """The whole response, once its last slice has come; not looked at yet."""
        check_mac1_untrusted(self._identity.public.raw, datagram)
        piece = decode_slice_untrusted(datagram)
        return self._answers.add(piece, self.address, None, now)

    def receive_response_untrusted(self, datagram: bytes, now: float) -> Agreed:
        header = decode_response_untrusted(datagram)
        check_mac1_untrusted(self._identity.public.raw, datagram)
        refused = BadPacket("unexpected")
        for asked in self._asked:
            try:
                agreed = Agreed(*asked.initiation.read_response_untrusted(header, now))
            except BadPacket as bad:
                refused = bad
                continue
            forms, response = self._forms, agreed.response
            forms.taken = header.hybrid or response.takes_hybrid
            if header.hybrid:
                forms.sliced = asked.form is Form.SLICED
                if response.result is Result.HYBRID:
                    raise BadPacket("unexpected")  # that is what it was
            elif response.takes_hybrid and self._offers and response.result is Result.OK:
                raise BadPacket("unexpected")  # no such peer begins a session without
            return agreed
        raise refused

    def receive_cookie_untrusted(self, datagram: bytes, now: float) -> None:
        """Take the cookie and try again at once, with it; of several in a moment only once, since
        others could make them without end.
        """
        mac1 = self._stamper.consume_reply_untrusted(datagram, now)
        self._retry = HANDSHAKE_RETRY_FIRST  # it was heard, and a new question begins
        if now < self._heard_at + HANDSHAKE_RETRY_FIRST:
            return
        self._heard_at = now
        for asked in self._asked:
            if any(each[-MACS_SIZE:-MAC_BYTES] == mac1 for each in asked.datagrams):
                self._again = asked.form
                if asked.form is not Form.PLAIN and self._plain == OFTEN:
                    self._plain = SELDOM  # which others could make it believe
        self._begin_again(now)

    def hurry(self, now: float) -> None:
        """There is reason to think that an init would be answered now."""
        self._again = self._form
        self._begin_again(now)

    def _begin_again(self, now: float) -> None:
        self._send_at = min(self._send_at, now)
        self._unanswered = self._copies = 0
        self._copy_at = inf

    def deadline(self) -> float:
        return min(self._send_at, self._copy_at, self.give_up_at)
