"""The responding side of an endpoint: from an init to a session of its own or to new keys.

An init changes nothing but a bounded table of half-open handshakes. The first datagram that opens
under a half-open handshake's keys confirms it: only then a session is made, or gets its new keys,
or replaces the one that the same peer had before.

Whoever replays an init gets into that table, too, so an entry may cost nobody else anything: the
table is bounded, in all and for each peer, the oldest expire first, and a second one of the same
peer has to prove its address, so that replays from elsewhere cannot push the real peer out.

A hybrid handshake is asked for where both sides take one: an init in the other form whose sender
says under its seal that it does is told so, and nothing begins with it. Nobody on the path can make
the two do without; who holds back hybrid inits holds back the session.

Pure. Error contract: `receive_init_untrusted` raises `BadPacket` (or `ReplyDue`), `confirm`
raises `BadPacket`; in both cases nothing has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from transport.congestion.choice import TransportConfig
from transport.constants import KCP_MTU, MAX_SLICES, RECEIVE_WINDOW
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum
from transport.errors import BadPacket
from transport.handshake.admission import Admission, Admitted, Authority
from transport.handshake.cookie import MacStamper
from transport.handshake.indices import IndexTable
from transport.handshake.reset import Resets
from transport.lanes.units import unit_bytes
from transport.ratelimit import BucketTable
from transport.session.keyring import KeyPair
from transport.session.session import Session
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    RESPONSE_SLICE,
    SLICE_ID_SIZE,
    Credential,
    ResponsePayload,
    Result,
    cut_handshake,
)
from transport.wire.trains import Address

HALF_OPEN_LIFETIME: Final = 5.0  # between response and the client's first sealed datagram
HALF_OPEN_PER_PEER: Final = 8  # more than an initiator sends inits in that time
# New sessions of one key, a second and at once. Each costs the program above far more than a
# handshake; after a loss somebody honest needs one.
SESSIONS_PER_KEY: Final = 1.0
SESSION_BURST_PER_KEY: Final = 5.0
HALF_OPEN_TOTAL: Final = 1024  # all members may come at once; 3 kB each


@frozen(eq=False)
class HalfOpen:
    """What becomes a session, or a session's new keys, when something opens under `pair`."""

    pair: KeyPair
    identity: PublicKey  # of ours, that the peer has asked for
    peer: PublicKey
    credential: Credential
    timestamp_ns: int
    association: int
    resumes: Session | None
    kcp_mtu: int
    max_slices: int  # that the peer takes
    parity: bool  # the same
    address: Address  # where the response went: who confirms could read there
    expires: float


class HalfOpenTable:
    """Handshakes that were answered and not confirmed, by local index, oldest first."""

    def __init__(self) -> None:
        self._entries: dict[int, HalfOpen] = {}
        self._per_peer: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, peer: PublicKey) -> int:
        return self._per_peer[peer.raw]

    def full_for(self, peer: PublicKey) -> bool:
        return len(self) >= HALF_OPEN_TOTAL or self.of(peer) >= HALF_OPEN_PER_PEER

    def add(self, entry: HalfOpen) -> None:
        self._entries[entry.pair.local_index] = entry
        self._per_peer[entry.peer.raw] += 1

    def discard(self, entry: HalfOpen) -> None:
        """Take it out if it is there."""
        if entry.pair.local_index in self._entries:
            self.remove(entry)

    def remove(self, entry: HalfOpen) -> None:
        del self._entries[entry.pair.local_index]
        self._per_peer[entry.peer.raw] -= 1
        if not self._per_peer[entry.peer.raw]:
            del self._per_peer[entry.peer.raw]

    def of_others(self, identities: set[PublicKey]) -> list[HalfOpen]:
        """Take out those for identities that are none of these."""
        others = [each for each in self._entries.values() if each.identity not in identities]
        for entry in others:
            self.remove(entry)
        return others

    def expire(self, now: float) -> list[HalfOpen]:
        """Take out what nobody confirmed in time."""
        late: list[HalfOpen] = []
        for entry in self._entries.values():
            if now < entry.expires:
                break
            late.append(entry)
        for entry in late:
            self.remove(entry)
        return late

    def deadline(self) -> float | None:
        first = next(iter(self._entries.values()), None)
        return None if first is None else first.expires

    @staticmethod
    def expiry(now: float) -> float:
        return now + HALF_OPEN_LIFETIME


@frozen(eq=False)
class Accepted:
    """A peer has connected to us and proven its key."""

    session: Session
    credential: Credential


class Responder:
    """All sessions that others have initiated with one endpoint."""

    def __init__(
        self,
        identity: PrivateKey,
        authority: Authority,
        indices: IndexTable[Session | HalfOpen],
        *,
        now: float,
        random_bytes: Callable[[int], bytes],
        max_sessions: int,
        config: TransportConfig,
        silent: bool = False,
        post_quantum: PostQuantum = PostQuantum.AUTO,
    ) -> None:
        self.half_open = HalfOpenTable()
        self.sessions: dict[bytes, Session] = {}  # by peer key: one each
        self.resets = Resets(identity, now, random_bytes, silent=silent)
        self._admission = Admission(identity, authority, now, random_bytes, post_quantum)
        self._post_quantum = post_quantum
        self._indices = indices
        self._random = random_bytes
        self.max_sessions = max_sessions
        self._new_sessions = BucketTable(SESSIONS_PER_KEY, SESSION_BURST_PER_KEY)
        self._config = config
        self.tight = False  # memory is short: nobody new

    def set_identities(self, identities: Sequence[PrivateKey]) -> None:
        """As `Endpoint.set_identities`. Handshakes for others that are half open end."""
        self._admission.set_identities(identities)
        self.resets.set_identities(identities)
        for entry in self.half_open.of_others({each.public for each in identities}):
            self._indices.release(entry.pair.local_index)

    def receive_slice_untrusted(
        self, datagram: bytes, address: Address, now: float
    ) -> tuple[bytes, ...]:
        """The response to send back to `address`, in slices, if this was the last of an init."""
        init = self._admission.add_slice_untrusted(datagram, address, now)
        if init is None:
            return ()
        return self.receive_init_untrusted(init, address, now, sliced=True)

    def receive_init_untrusted(
        self, datagram: bytes, address: Address, now: float, *, sliced: bool = False
    ) -> tuple[bytes, ...]:
        """The response to send back to `address`: one datagram, or its slices."""
        admitted = self._admission.admit_untrusted(datagram, address, now)
        self.expire(now)
        peer = admitted.peer
        if self.half_open.full_for(peer):
            raise BadPacket("half_open_full")
        if self.half_open.of(peer) and not admitted.proven_address:
            own, header = admitted.own, admitted.header
            raise self._admission.cookie_for(own, header, "half_open_full", address, now)
        result, resumes = admitted.result, None
        session = self.sessions.get(peer.raw)
        if session is not None and session.ended is None:
            if admitted.payload.resume == session.association:
                resumes = session
        elif result is Result.OK and self._full_for(peer):
            result = Result.FULL
        if result is Result.OK and self._wants_hybrid(admitted):
            result = Result.HYBRID
        # Who asked for a session that is lost begins anew, and keys for it would only wait here.
        begins = result is Result.OK and (resumes is not None or not admitted.payload.resume)
        if not begins:
            self._admission.refuse(admitted, address, now)
        datagram = self._respond(admitted, result, resumes, address, now, begins=begins)
        response = self._stamped(datagram, admitted, now, sliced=sliced)
        self._admission.answered(admitted.header, address, response, HalfOpenTable.expiry(now))
        return response

    def _wants_hybrid(self, admitted: Admitted) -> bool:
        """Whether an init in the other form is to come again."""
        if admitted.header.hybrid or self._post_quantum is PostQuantum.OFF:
            return False
        return admitted.payload.takes_hybrid or self._post_quantum is PostQuantum.REQUIRE

    def _stamped(
        self, datagram: bytes, admitted: Admitted, now: float, *, sliced: bool
    ) -> tuple[bytes, ...]:
        stamper = MacStamper(admitted.peer.raw)
        response = stamper.stamp(datagram, now)
        if not sliced:
            return (response,)
        chosen_id, index = self._random(SLICE_ID_SIZE), admitted.header.sender_index
        slices = cut_handshake(RESPONSE_SLICE, index, chosen_id, response)
        return tuple(stamper.stamp(each.encode(), now) for each in slices)

    def _full_for(self, peer: PublicKey) -> bool:
        # A peer that has a session takes its own place again.
        full = self.tight or len(self.sessions) >= self.max_sessions
        return full and peer.raw not in self.sessions

    def _respond(
        self,
        admitted: Admitted,
        result: Result,
        resumes: Session | None,
        address: Address,
        now: float,
        *,
        begins: bool,
    ) -> bytes:
        payload = admitted.payload
        index = self._indices.unused(self.resets.index)
        fresh = int.from_bytes(self._random(8), "little")
        response = ResponsePayload(
            association=fresh if resumes is None else resumes.association,
            index_copy=index,
            resumed=resumes is not None,
            result=result,
            kcp_mtu=min(KCP_MTU, payload.kcp_mtu, unit_bytes(payload.max_slices)),
            receive_window=RECEIVE_WINDOW,
            max_slices=MAX_SLICES,
            reset_token=self.resets.token(index),
            takes_parity=True,
            takes_hybrid=self._post_quantum is not PostQuantum.OFF,
        )
        datagram, pair = admitted.reader.respond(response, now)
        if begins:
            entry = HalfOpen(
                pair=pair,
                identity=admitted.own.identity.public,
                peer=admitted.peer,
                credential=admitted.header.credential,
                timestamp_ns=admitted.payload.timestamp_ns,
                association=response.association,
                resumes=resumes,
                kcp_mtu=response.kcp_mtu,
                max_slices=payload.max_slices,
                parity=payload.takes_parity,
                address=address,
                expires=HalfOpenTable.expiry(now),
            )
            self.half_open.add(entry)
            self._indices[index] = entry
        return datagram

    def confirm(
        self, entry: HalfOpen, datagram: bytes, address: Address, now: float
    ) -> tuple[Session, Accepted | None, Session | None]:
        """Take the first sealed datagram of a half-open handshake.

        Returns the session, the event if it is a new one, and the session that it replaced.
        """
        plaintext = entry.pair.opener.open_untrusted(datagram)
        if now >= entry.expires or (entry.resumes is not None and entry.resumes.ended is not None):
            raise BadPacket("unexpected")
        if entry.resumes is None and self._full_for(entry.peer):
            raise BadPacket("sessions_full")
        if entry.resumes is None and not self._new_sessions.allow(entry.peer.raw, now):
            raise BadPacket("key_limited")  # not for long: its next datagram may be in time
        self.half_open.remove(entry)
        self._admission.confirmed(entry.peer, entry.timestamp_ns)
        session, accepted, replaced = entry.resumes, None, None
        if session is not None:
            session.adopt(entry.pair, now)
            if address == entry.address != session.paths.current:
                session.moved(address, now)
        else:
            replaced = self.sessions.get(entry.peer.raw)
            if replaced is not None:
                replaced.close(CloseCode.REPLACED, "the same key has connected again", now)
            session = Session(
                initiator=False,
                peer=entry.peer,
                association=entry.association,
                pair=entry.pair,
                kcp_mtu=entry.kcp_mtu,
                max_slices=entry.max_slices,
                parity=entry.parity,
                receive_window=RECEIVE_WINDOW,
                address=entry.address,  # a copy of this datagram may come from anywhere
                now=now,
                random_bytes=self._random,
                config=self._config,
            )
            self.sessions[entry.peer.raw] = session
            accepted = Accepted(session, entry.credential)
        session.identity = entry.identity
        self._indices[entry.pair.local_index] = session
        session.confirmed_by(datagram, plaintext, address, now)
        return session, accepted, replaced

    def discard(self, entry: HalfOpen) -> None:
        """Its confirmation has failed in the middle: nobody can confirm it any more."""
        self.half_open.discard(entry)
        self._indices.release(entry.pair.local_index)

    def expire(self, now: float) -> None:
        """Forget handshakes that nobody confirmed."""
        for entry in self.half_open.expire(now):
            self._indices.release(entry.pair.local_index)

    def forget(self, session: Session) -> None:
        """A session has finished."""
        if self.sessions.get(session.peer.raw) is session:
            del self.sessions[session.peer.raw]
