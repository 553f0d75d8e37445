"""The initiating side of an endpoint: sessions that we started, and their rekeys.

Only the initiator ever starts a handshake, so two never cross. A rekey is a negotiation that
names the association; if the responder does not know it any more, it has restarted or has given
us up, and the session is over: the program above connects anew. A responder that has fallen silent
is sought with rekeys at several addresses side by side; the one that answers becomes the path.

Whether a handshake is hybrid is settled by what both sides say under their seals (`attempt.py`): a
session without begins only where one of them does not take it, and not if it is required here.

Pure. Error contract: `receive_*_untrusted` raises `BadPacket` and nothing has changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from hmac import compare_digest
from math import inf
from typing import Final

from attrs import Factory, define, evolve, frozen

from transport.congestion.choice import TransportConfig
from transport.constants import CONNECT_ADDRESSES, HYBRID_INIT_SIZE, KCP_MTU, RECEIVE_WINDOW
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum
from transport.errors import BadPacket
from transport.handshake.attempt import Forms, Negotiation
from transport.handshake.cookie import MacStamper
from transport.handshake.indices import IndexTable
from transport.handshake.messages import Peer
from transport.session.session import Session
from transport.wire.control import CloseCode
from transport.wire.datagrams import Result, Suite, decode_reset_untrusted
from transport.wire.trains import Address

REKEY_PATIENCE: Final = 24.0  # for one rekey; then the session asks again
# A handshake per reset and not more often: a token that somebody has learned is good for nothing.
RESET_INTERVAL: Final = 10.0


@frozen(eq=False)
class Connected:
    """Our negotiation has led to a session."""

    negotiation: Negotiation
    session: Session


@frozen(eq=False)
class Refused:
    """The responder, which has proven its key, said no; or we do, to what it can."""

    negotiation: Negotiation
    result: Result  # HYBRID: one side requires what the other does not take


@frozen(eq=False)
class GaveUp:
    """Nobody answered in time."""

    negotiation: Negotiation


@define(eq=False)
class _Relation:
    """What outlives a single negotiation with a peer."""

    peer: Peer
    stamper: MacStamper
    session: Session | None = None
    forms: Forms = Factory(Forms)
    negotiations: dict[Address, Negotiation] = Factory(dict)  # that are under way
    reset_at: float = -inf  # when it last told us that it has lost the session


class Initiator:
    """All sessions that one endpoint has initiated."""

    def __init__(
        self,
        identity: PrivateKey,
        indices: IndexTable[Session | Negotiation],
        *,
        suite: Suite,
        random_bytes: Callable[[int], bytes],
        timestamp_ns: Callable[[], int],
        config: TransportConfig,
        post_quantum: PostQuantum = PostQuantum.AUTO,
    ) -> None:
        self.started: list[Negotiation] = []  # to be scheduled by the demux
        self.events: deque[Connected | Refused | GaveUp] = deque()
        self._identity = identity
        self._indices = indices
        self._suite = suite
        self._random = random_bytes
        self._timestamp_ns = timestamp_ns
        self._config = config
        self._post_quantum = post_quantum
        self._negotiations: dict[Negotiation, _Relation] = {}
        self._sessions: dict[Session, _Relation] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def sessions(self) -> list[Session]:
        return list(self._sessions)

    def connect(self, peer: Peer, address: Address, now: float, give_up_at: float) -> Negotiation:
        """Start a session. It ends in one of the events. ValueError: impossible key."""
        self._identity.exchange(peer.key.raw)  # fails here, or in every init later
        relation = _Relation(peer, MacStamper(peer.key.raw))
        return self._negotiate(relation, address, relation.stamper, 0, now, give_up_at)

    def rekey(self, session: Session, now: float) -> Negotiation:
        """Start a handshake for new keys, unless one is under way."""
        relation, address = self._sessions[session], session.paths.current
        under_way = relation.negotiations.get(address)
        if under_way is not None:
            return under_way
        stamper, until = relation.stamper, now + REKEY_PATIENCE
        relation.forms.sliced &= session.datagram_size < HYBRID_INIT_SIZE
        return self._negotiate(relation, address, stamper, session.association, now, until)

    def addresses(self) -> set[Address]:
        """Where something is asked now."""
        return {negotiation.address for negotiation in self._negotiations}

    def seek(
        self, session: Session, addresses: Sequence[Address], now: float, *, elsewhere: bool
    ) -> None:
        """Ask for the session where it was, unless it should go `elsewhere`, and at these
        addresses, and nowhere else any more.
        """
        relation = self._sessions.get(session)
        if relation is None or session.ended is not None:
            return
        if not elsewhere:
            self.rekey(session, now)
        others = [each for each in addresses if each != session.paths.current]
        asked = set(others[: CONNECT_ADDRESSES - 1])
        if not elsewhere:
            asked.add(session.paths.current)
        for address in relation.negotiations.keys() - asked:
            self.abandon(relation.negotiations[address])
        for address in others[: CONNECT_ADDRESSES - 1]:
            if address not in relation.negotiations:
                # A cookie is good for one way alone.
                stamper, until = MacStamper(relation.peer.key.raw), now + REKEY_PATIENCE
                self._negotiate(relation, address, stamper, session.association, now, until)

    def receive_reset_untrusted(self, datagram: bytes, now: float) -> Negotiation:
        """A responder says that it knows a session of ours no more: shake hands again, at once.

        Nothing else: the session goes on until an authentic answer says that it is over.
        """
        token = decode_reset_untrusted(datagram)
        for session, relation in self._sessions.items():
            if compare_digest(token, session.keys.current.reset_token) and session.ended is None:
                if now - relation.reset_at < RESET_INTERVAL:
                    raise BadPacket("reset_limited")
                relation.reset_at = now
                negotiation = self.rekey(session, now)
                negotiation.hurry(now)
                return negotiation
        raise BadPacket("unexpected")

    def _negotiate(
        self,
        relation: _Relation,
        address: Address,
        stamper: MacStamper,
        resume: int,
        now: float,
        give_up_at: float,
    ) -> Negotiation:
        negotiation = Negotiation(
            self._identity,
            relation.peer,
            self._suite,
            address=address,
            index=self._indices.unused(),
            resume=resume,
            stamper=stamper,
            now=now,
            give_up_at=give_up_at,
            random_bytes=self._random,
            timestamp_ns=self._timestamp_ns,
            post_quantum=self._post_quantum,
            forms=relation.forms,
        )
        self._indices[negotiation.index] = negotiation
        self._negotiations[negotiation] = relation
        relation.negotiations[address] = negotiation
        self.started.append(negotiation)
        return negotiation

    def forget_credential(self, session: Session) -> None:
        """Rekeys of this session show the key alone."""
        relation = self._sessions.get(session)
        if relation is not None:
            relation.peer = Peer(relation.peer.key)

    def expect(self, session: Session, key: PublicKey) -> None:
        """Handshakes of this session that begin from now on are with this key of the peer.
        ValueError: impossible key.
        """
        self._identity.exchange(key.raw)  # as in `connect`; also where the session has just ended
        relation = self._sessions.get(session)
        if relation is None or key == relation.peer.key:
            return
        relation.peer, relation.stamper = evolve(relation.peer, key=key), MacStamper(key.raw)
        session.peer = key

    def is_live(self, negotiation: Negotiation) -> bool:
        return negotiation in self._negotiations

    def abandon(self, negotiation: Negotiation) -> None:
        """Nobody wants the answer any more; no event follows. Idempotent."""
        relation = self._negotiations.pop(negotiation, None)
        if relation is not None:
            del relation.negotiations[negotiation.address]
            self._indices.release(negotiation.index)

    def give_up(self, negotiation: Negotiation) -> None:
        """Its time is over. The session of a rekey asks again if it still needs one."""
        relation = self._negotiations[negotiation]
        self.abandon(negotiation)
        if relation.session is None:
            self.events.append(GaveUp(negotiation))

    def too_big(self, address: Address, now: float) -> list[Negotiation]:
        """The interface does not take whole hybrid inits to there: who has sent one, and asks in
        another form now.
        """
        asking = [each for each in self._negotiations if each.address == address]
        return [each for each in asking if each.too_big(now)]

    def receive_response_untrusted(
        self, negotiation: Negotiation, datagram: bytes, now: float
    ) -> Session | None:
        """The answer to a negotiation; the session that it made, renewed or ended. The negotiation
        goes on where it is to come in another form.
        """
        agreed = negotiation.receive_response_untrusted(datagram, now)
        response, pair, wanted = agreed.response, agreed.pair, self._post_quantum
        if response.result is Result.HYBRID and wanted is not PostQuantum.OFF:
            negotiation.go_hybrid(now)
            return None
        relation = self._negotiations[negotiation]
        self.abandon(negotiation)
        session, result = relation.session, response.result
        if wanted is PostQuantum.REQUIRE and result is Result.OK and not pair.hybrid:
            result = Result.HYBRID
        if session is None:
            if result is not Result.OK:
                self.events.append(Refused(negotiation, result))
                return None
            session = relation.session = Session(
                initiator=True,
                peer=relation.peer.key,
                association=response.association,
                pair=pair,
                kcp_mtu=min(KCP_MTU, response.kcp_mtu),
                max_slices=response.max_slices,
                parity=response.takes_parity,
                receive_window=RECEIVE_WINDOW,
                address=negotiation.address,
                now=now,
                random_bytes=self._random,
                config=self._config,
            )
            self._sessions[session] = relation
            self.events.append(Connected(negotiation, session))
        elif result is not Result.OK:
            session.fail(CloseCode.NORMAL, f"refused: {result.name.lower()}")
            return session
        elif not response.resumed:
            session.fail(CloseCode.TIMEOUT, "the peer has lost the session")
            return session
        else:
            self._abandon_all(relation)
            if negotiation.address != session.paths.current:
                session.moved(negotiation.address, now)
            session.adopt(pair, now)
        self._indices[pair.local_index] = session
        return session

    def forget(self, session: Session) -> None:
        """A session has finished."""
        relation = self._sessions.pop(session, None)
        if relation is not None:
            self._abandon_all(relation)

    def _abandon_all(self, relation: _Relation) -> None:
        for negotiation in list(relation.negotiations.values()):
            self.abandon(negotiation)
