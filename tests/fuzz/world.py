"""A switch's transport with a member that means harm and one that does not, on a wire in memory.

Invariants, checked by `check` at any time: nothing is raised; every drop has a documented name;
what a session holds is bounded; the neighbour's session is alive and carries messages both ways.
"""

from transport.constants import (
    DATAGRAM_INBOX_BYTES,
    DATAGRAM_OUTBOX_BYTES,
    INBOX_BYTES,
    RECEIVE_BYTES,
)
from transport.crypto.cipher import conversation_number
from transport.handshake.admission import Grant
from transport.stats import DROP_REASONS
from transport.testing.cores import Host, KnownPeers, Wire
from transport.wire.datagrams import HEADER

STRANGER = ("203.0.113.9", 999)
# Bytes of one session: both reliable lanes' inboxes and KCP queues with what one turn adds to each,
# the datagram lane's both ways.
HELD = 2 * (INBOX_BYTES + RECEIVE_BYTES) + DATAGRAM_INBOX_BYTES + DATAGRAM_OUTBOX_BYTES + (4 << 20)


class World:
    def __init__(self) -> None:
        self.wire = Wire(seed=1)
        self.known = KnownPeers()
        self.server = self.wire.host("198.51.100.1", authority=self.known)
        self.evil = self._member("192.0.2.1")
        self.neighbour = self._member("192.0.2.2")
        # KCP's number follows from the first keys of a session.
        self.conversation = conversation_number(self.evil.session.keys.current.handshake_hash)
        self._said = 0
        self.wire.settle()

    def _member(self, ip: str) -> Host:
        host = self.wire.host(ip)
        self.known.keys[host.identity.public] = Grant()
        host.connect(self.server)
        self.wire.settle()
        return host

    @property
    def attacked(self):
        """The server's newest session with the evil member, ended or not."""
        mine = self.evil.identity.public
        return [e.session for e in self.server.events if e.session.peer == mine][-1]

    def sealed(
        self, kind: int, plaintext: bytes, counter: int, *, slices: int = 1, place: int = 0
    ) -> bytes:
        """A unit under the evil member's newest keys that says any number, and where it is cut."""
        sealer = self.evil.session.keys.current.sealer
        header = HEADER.pack(kind, place, slices, 0, sealer._index, counter)
        return header + sealer._encrypt(sealer._nonce(counter), plaintext, header)

    def flush(self) -> int:
        """Let the server send what it has; bytes that went to the stranger's address."""
        sent = self.wire.collect()
        return sum(len(each.data) for each in sent if each.destination == STRANGER)

    def check(self) -> None:
        """The invariants that hold at any moment."""
        for drops in (self.server.demux.drops, self.attacked.drops, self.other.drops):
            assert drops.keys() <= DROP_REASONS.keys()
        held = self.attacked.lanes.held
        assert 0 <= held <= HELD, f"{held} bytes held"

    @property
    def other(self):
        """The server's session with the neighbour."""
        his = self.neighbour.identity.public
        mine = [e.session for e in self.server.events if e.session.peer == his]
        assert len(mine) == 1, "the neighbour was made to connect again"
        return mine[0]

    def neighbour_lives(self) -> None:
        """What either says, the other hears."""
        self._said += 1
        there, back = b"there %d" % self._said, b"back %d" % self._said
        session, now = self.other, self.wire.now
        assert session.ended is None, f"the neighbour's session has ended: {session.ended}"
        self.neighbour.session.bulk.send([there], now)
        self.neighbour.demux.touch(self.neighbour.session)
        session.bulk.send([back], now)
        self.server.demux.touch(session)
        self.wire.advance(0.5)
        assert session.bulk.take_messages() == [there]
        assert self.neighbour.session.bulk.take_messages() == [back]
        self.server.demux.touch(session)
