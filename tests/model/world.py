"""A client, a switch's endpoint, and an attacker who carries all that they say, or does not.

`actions()` says what may happen next, `do(action)` lets it happen and raises `Violation` for what
must not come of it, `state()` is what tells this world from another, `recover()` lets the attacker
stop and raises `Violation` if those who are honest do not get together again.

Nothing arrives but by an action. The attacker sees all datagrams, keeps the first and the newest of
each kind, delivers each whenever and as often as it likes, also from an address of its own, where
it reads as well; it knows the switch's public key and has one that is not known there.
"""

from collections.abc import Callable
from itertools import chain

from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.handshake.admission import Grant
from transport.handshake.attempt import Negotiation
from transport.session.session import Session
from transport.testing.cores import START, Datagram, Host, KnownPeers, Wire
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    CONTROL,
    COOKIE,
    DATA,
    DATAGRAM,
    INIT,
    INIT_SLICE,
    RESET,
    RESPONSE,
    RESPONSE_SLICE,
    encode_reset,
)

Action = tuple[str | int, ...]

HOME, MOVED, SWITCH, ATTACKER = "home", "moved", "switch", "attacker"
ADDRESSES = {
    HOME: ("192.0.2.1", 41022),
    MOVED: ("192.0.2.99", 5),
    SWITCH: ("198.51.100.1", 7450),
    ATTACKER: ("203.0.113.9", 999),
}
PLACES = {address: place for place, address in ADDRESSES.items()}
KINDS = {
    INIT: "init", RESPONSE: "response", COOKIE: "cookie", RESET: "reset", DATA: "data",
    CONTROL: "control", DATAGRAM: "datagram", INIT_SLICE: "init slice",
    RESPONSE_SLICE: "response slice",
}  # fmt: skip
SLICES = (INIT_SLICE, RESPONSE_SLICE)
HANDSHAKE = (RESPONSE, COOKIE, RESET)
AMPLIFICATION = 3
# What is done of its own accord, at most so often on one way.
LIMITS = {
    "connect": 1, "renew": 1, "say": 2, "answer": 1, "move": 1, "restart": 1, "close": 1,
    "stranger": 1, "forge reset": 1, "forge": 1, "short": 2, "half-open": 1, "silence": 1,
}  # fmt: skip
TIMES = {"short": 0.6, "half-open": 6.0, "silence": 31.0}  # seconds
RECOVERY = 130.0  # seconds: those of a dead session, and of a handshake


class Violation(AssertionError):
    """What must not be; the text says which invariant."""


class Seen:
    """A datagram that somebody honest has sent."""

    def __init__(self, number: int, datagram: Datagram, knows: frozenset[tuple[str, bool]]) -> None:
        self.number = number
        self.data = datagram.data
        self.source, self.to = PLACES[datagram.source], PLACES[datagram.destination]
        self.knows = knows  # of a client's: what has reached it, see `World._prove`
        self.delivered = 0

    @property
    def kind(self) -> int:
        return self.data[0]

    @property
    def form(self) -> tuple[int, int]:
        """What is kept apart: kinds, slices by their number, inits and responses by their size."""
        kind = self.kind
        if kind in SLICES:
            return kind, self.data[2]
        return kind, len(self.data) if kind in (INIT, RESPONSE) else 0


class World:
    def __init__(self, switch: PostQuantum = PostQuantum.AUTO) -> None:
        self.wire = Wire(seed=1)
        self._switch = switch
        self.wire.cut()
        self.client = self.wire.host(*ADDRESSES[HOME])
        self._grants = KnownPeers({self.client.identity.public: Grant()})
        self.server = self.wire.host(
            *ADDRESSES[SWITCH], authority=self._grants, post_quantum=switch
        )
        self.stranger = PrivateKey.from_raw(bytes(range(32)))
        self.pool: list[Seen] = []
        self.done: list[Action] = []
        self.heard: list[bytes] = []  # what the server's program got, of all sessions
        self._used = dict.fromkeys(LIMITS, 0)
        self._numbers = self._looked = self._said = 0
        self._known: set[bytes] = set()
        self._closed: set[Session] = set()  # ended because the client wanted it
        self._over: set[Session] = set()
        self._forget_server()

    def _forget_server(self) -> None:
        """Of what the server has said before it was started anew it knows nothing."""
        self._came = dict.fromkeys(ADDRESSES, 0)  # bytes to the server, by where they came from
        self._went = dict.fromkeys(ADDRESSES, 0)
        self._proven: set[str] = set()
        self._reached: set[tuple[str, bool]] = set()

    # --- What may happen --------------------------------------------------------------------

    def actions(self) -> list[Action]:
        """In a fixed order; what has no effect is among them."""
        found: list[Action] = []
        for seen in self.pool:
            found.append(("deliver", seen.number))
            if seen.to == SWITCH:
                found.append(("from elsewhere", seen.number))
        for name, used in self._used.items():
            if used < LIMITS[name] and self._possible(name):
                found.append((name,))
        return found

    def told(self) -> str:
        """What has happened, for people."""
        return ", ".join(" ".join(map(str, action)) for action in self.done)

    def _possible(self, name: str) -> bool:
        live = self.live(self.client)
        match name:
            case "connect":
                return not self._negotiations()
            case "renew" | "say" | "close":
                return bool(live)
            case "answer":
                return bool(self.live(self.server))
            case "forge":
                return bool(self.pool)
        return True

    def do(self, action: Action) -> None:
        """One step; `Violation` for what must not follow from it."""
        self.done.append(action)
        name = str(action[0])
        if name in self._used:
            self._used[name] += 1
        if name in ("deliver", "from elsewhere"):
            seen = next(each for each in self.pool if each.number == action[1])
            self._deliver(seen, seen.data, ATTACKER if name == "from elsewhere" else seen.source)
        elif name in TIMES:
            self.wire.advance(TIMES[name])
            self._look(None, b"")
        else:
            self._own(name)
        self._check()

    def _own(self, name: str) -> None:
        now, client, server = self.wire.now, self.client, self.server
        match name:
            case "connect":
                client.connect(server)
            case "renew":
                client.session.renew()
                client.demux.touch(client.session)
            case "say":
                self._said += 1
                client.session.open_datagrams(now).send([b"said %d" % self._said], now)
                client.demux.touch(client.session)
            case "answer":
                session = self.live(server)[-1]
                session.open_datagrams(now).send([b"answer"], now)
                server.demux.touch(session)
            case "move":
                self.wire.rebind(client, ADDRESSES[MOVED])
            case "restart":
                self.server = self.wire.host(
                    *ADDRESSES[SWITCH],
                    authority=self._grants,
                    identity=server.identity,
                    post_quantum=self._switch,
                )
                self._forget_server()
            case "close":
                self._closed.add(client.session)
                client.close()
            case "stranger":
                self._let_the_stranger_try()
            case "forge reset":
                self.client.inject(encode_reset(bytes(7), b"a guess, no more"), ADDRESSES[SWITCH])
            case "forge":  # the newest, with one bit changed
                seen = self.pool[-1]
                damaged = seen.data[:-20] + bytes((seen.data[-20] ^ 1,)) + seen.data[-19:]
                self._deliver(seen, damaged, ATTACKER)
                return
        self._look(None, b"")

    def _let_the_stranger_try(self) -> None:
        """As an endpoint of its own, to which nothing is lost."""
        host = self.wire.host(*ADDRESSES[ATTACKER], identity=self.stranger)
        ends = {ADDRESSES[ATTACKER], ADDRESSES[SWITCH]}
        before = self.wire.filter
        self.wire.filter = lambda each: [each] if {each.source, each.destination} == ends else []
        host.connect(self.server)
        at = len(self.wire.sent)
        self.wire.settle()
        for each in self.wire.sent[at:]:
            if each.source == ADDRESSES[ATTACKER]:
                self._came[ATTACKER] += len(each.data)
        self.wire.filter = before
        del self.wire.hosts[ADDRESSES[ATTACKER]]

    # --- The wire ---------------------------------------------------------------------------

    def _deliver(self, seen: Seen, data: bytes, source: str) -> None:
        seen.delivered += 1
        if seen.to == SWITCH:
            self._came[source] += len(data)
            self._prove(seen, source)
            self.server.inject(data, ADDRESSES[source])
        else:
            self._reached.add((seen.to, seen.kind in (RESPONSE, RESPONSE_SLICE)))
            self.client.inject(data, ADDRESSES[source])
        self._look(source if seen.to == SWITCH else None, data)

    def _prove(self, seen: Seen, source: str) -> None:
        """An address is proven when what the server sent there has reached the client, and the
        client's answer comes back: from there, or, to a handshake, from anywhere.
        """
        for place, handshake in seen.knows:
            if handshake or place == source:
                self._proven.add(place)

    def _look(self, cause: str | None, data: bytes) -> None:
        """See what was sent, and judge how much it is."""
        self.wire.collect()
        for each in self.wire.sent[self._looked :]:
            place = PLACES[each.destination]
            if each.source == ADDRESSES[SWITCH]:
                self._went[place] += len(each.data)
                if each.data[0] in HANDSHAKE and place == cause and len(each.data) > len(data):
                    raise Violation(f"a {KINDS[each.data[0]]} larger than what caused it")
            if each.data in self._known or ADDRESSES[ATTACKER] == each.source:
                continue
            self._known.add(each.data)
            knows = frozenset(self._reached) if place == SWITCH else frozenset()
            self.pool.append(Seen(self._numbers, each, knows))
            self._numbers += 1
        self._looked = len(self.wire.sent)
        self._forget()

    def _forget(self) -> None:
        """The attacker keeps the first and the newest of each kind between two places."""
        kept: dict[tuple[tuple[int, int], str, str], list[Seen]] = {}
        for seen in self.pool:
            alike = kept.setdefault((seen.form, seen.source, seen.to), [])
            alike[1:] = [seen] if alike else []
            alike[:1] = alike[:1] or [seen]
        self.pool = sorted(chain.from_iterable(kept.values()), key=lambda seen: seen.number)

    # --- What must hold ---------------------------------------------------------------------

    def _check(self) -> None:
        now = self.wire.now
        accepted = [event.session for event in self.server.events]
        live = [session for session in accepted if session.ended is None]
        keys = [session.peer for session in live]
        if len(keys) != len(set(keys)):
            raise Violation("two live sessions of one key")
        if any(session.peer == self.stranger.public for session in accepted):
            raise Violation("a session of a stranger")
        if not all(each.keys.current.hybrid for each in accepted + self._sessions(self.client)):
            raise Violation("a session without ML-KEM-768 of two that both take it")
        for session in live:
            if PLACES[session.paths.current] not in self._proven:
                raise Violation("a session is sent to an address that has proven nothing")
        for place, went in self._went.items():
            if place not in self._proven and went > AMPLIFICATION * self._came[place]:
                raise Violation(f"{went} bytes for {self._came[place]} from an unproven address")
        for session in live:
            self.heard += session.open_datagrams(now).take_messages()
        if len(self.heard) != len(set(self.heard)):
            raise Violation("data that was taken twice")
        for session in accepted:
            if session.ended is not None and session not in self._over:
                self._over.add(session)
                self._check_server_end(session, newest=session is accepted[-1])
        for session in self._sessions(self.client):
            if session.ended is not None and session not in self._over | self._closed:
                self._over.add(session)
                self._check_end(session, live)

    def _check_end(self, session: Session, live: list[Session]) -> None:
        """The client's session has ended, and not because it wanted that."""
        ended = session.ended
        assert ended is not None
        # What the server still has may be over here when it was silent for long.
        silent = ended.code == CloseCode.TIMEOUT and "lost" not in ended.reason
        if not silent and any(session.association == other.association for other in live):
            raise Violation(f"a session ended that the peer has: {ended.reason}")

    def _check_server_end(self, session: Session, *, newest: bool) -> None:
        """The server's session has ended."""
        ended = session.ended
        assert ended is not None
        if ended.code == CloseCode.REPLACED and not ended.by_peer:
            if newest:
                raise Violation("a session was replaced by nothing")
        elif ended.by_peer:
            ours = self._sessions(self.client)
            if any(each.association == session.association and not each.ended for each in ours):
                raise Violation("a session was ended by its peer, which still has it")
        elif ended.code != CloseCode.TIMEOUT:
            raise Violation(f"a session has ended for no reason: {ended.reason}")

    # --- What tells one world from another --------------------------------------------------

    def state(self) -> str:
        """Equal for worlds in which the same may happen, as far as is known. Indices and
        associations have the numbers in which they come up; counts are cut off.
        """
        numbers: dict[bytes | int, int] = {}

        def name(value: bytes | int) -> int:
            return numbers.setdefault(value, len(numbers))

        ends = [
            [
                (
                    name(each.association),
                    name(each.keys.current.local_index),
                    each.keys.rekeys,
                    PLACES[each.paths.current],
                    min(each.keys.current.opener.opened, 3),
                )
                for each in self.live(host)
            ]
            for host in (self.client, self.server)
        ]
        asked = [
            (each.resume and name(each.resume), min(each.sent, 3), str(each._form))
            for each in self._negotiations()
        ]
        pool = [
            (each.form, each.source, each.to, self._meaning(each, name), min(each.delivered, 2),
             sorted(each.knows))
            for each in self.pool
        ]  # fmt: skip
        return repr((
            ends, asked, pool, self.server.demux.half_open, self._sliced(), len(self.heard),
            sorted(self._proven), [*self._used.values()], round(self.wire.now - START, 3),
            PLACES[self.client.address],
        ))  # fmt: skip

    def _meaning(self, seen: Seen, name: Callable[[bytes | int], int]) -> tuple[int, ...]:
        if seen.kind == RESET:
            return (name(seen.data[-16:]),)
        fields = (seen.data[4:8], seen.data[8:12]) if seen.kind == RESPONSE else (seen.data[4:8],)
        return tuple(name(int.from_bytes(each, "little")) for each in fields)

    def _sliced(self) -> list[int]:
        """What inits lack that have come in part."""
        responder = self.server.demux._responder
        assert responder is not None
        table = responder._admission._slices
        return sorted(each.pieces.count(b"") for each in table._partial.values())

    @staticmethod
    def _sessions(host: Host) -> list[Session]:
        return [event.session for event in host.events if hasattr(event, "session")]

    def live(self, host: Host) -> list[Session]:
        return [session for session in self._sessions(host) if session.ended is None]

    def _negotiations(self) -> list[Negotiation]:
        return list(self.client.demux._initiator._negotiations)

    # --- The attacker stops -----------------------------------------------------------------

    def recover(self) -> None:
        """Both hear each other again, at the latest after `RECOVERY` seconds."""
        wire, client = self.wire, self.client
        wire.heal()
        end = wire.now + RECOVERY
        while wire.now < end:
            if not self.live(client) and not self._negotiations():
                client.connect(self.server)
            wire.advance(0.05)
            if self.live(client) and self._together():
                return
            wire.advance(2.0)
        raise Violation(f"not together again {RECOVERY:g} seconds after the attacker has stopped")

    def _together(self) -> bool:
        """Whether each hears what the other says."""
        wire, ours = self.wire, self.live(self.client)[-1]
        theirs = [s for s in self.live(self.server) if s.association == ours.association]
        if not theirs:
            return False
        self._said += 1
        there, back = b"there %d" % self._said, b"back %d" % self._said
        for host, session, text in ((self.client, ours, there), (self.server, theirs[0], back)):
            session.bulk.send([text], wire.now)
            host.demux.touch(session)
        wire.advance(1.0)
        return there in theirs[0].bulk.take_messages() and back in ours.bulk.take_messages()
