"""What a peer sends of parity: rows of true groups and of none, in any order, with holes.

An input is a list of deeds: segments, rows of a group that were damaged or not, rows of any shape.
Invariants: BadPacket and nothing else; what is kept stays bounded; while the peer was honest, what
is computed is what was sent.
"""

import random
from collections.abc import Iterator

from tests.fuzz.reader import Reader
from transport.errors import BadPacket
from transport.lanes.parity import (
    KEPT,
    KEPT_COST,
    MAX_GROUP,
    MAX_ROWS,
    MOST_WAITING,
    Rebuilder,
    encode,
)
from transport.lanes.segments import HEADER, PUSH, ROUND

LARGEST = 200
MOST_HELD = (KEPT * (LARGEST + KEPT_COST)) + MOST_WAITING * MAX_ROWS * (LARGEST + 3)
DEEDS = ("group", "group", "row", "segment")
MOST_DEEDS = 40


class _Peer:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.rebuilder = Rebuilder()
        self.next = reader.edge(32)
        self.sent: dict[int, tuple[int, bytes]] = {}
        self.honest = True

    def run(self) -> None:
        for _ in range(MOST_DEEDS):
            if not self.reader:
                break
            try:
                self._deed(self.reader.choice(DEEDS))
                for number, *member in self.rebuilder.rebuilt():
                    assert not self.honest or self.sent[number] == tuple(member)
            except BadPacket:
                assert not self.honest, "an honest peer is refused"
            assert 0 <= self.rebuilder.held <= MOST_HELD

    def _deed(self, deed: str) -> None:
        reader = self.reader
        if deed == "group":
            self._group()
        elif deed == "row":
            self.honest = False
            row = reader.edge(8), reader.edge(32), reader.edge(32), reader.blob(LARGEST + 9)
            self.rebuilder.take_untrusted(*row, LARGEST)
        else:
            number = self.next + reader.below(MAX_GROUP) & ROUND
            self.honest = False
            self._segment(number, (reader.below(256), reader.blob(LARGEST + 9)))

    def _group(self) -> None:
        reader = self.reader
        size = 1 + reader.below(MAX_GROUP)
        members = [(reader.below(128), reader.blob(LARGEST)) for _ in range(size)]
        first, self.next = self.next, self.next + size & ROUND
        longest = max(len(content) for _, content in members)
        rows = list(enumerate(encode(members, MAX_ROWS)))
        for at, member in enumerate(members):
            self.sent[first + at & ROUND] = member
            if not reader.chance(0.3):
                self._segment(first + at & ROUND, member)
        for row, whole in rows:
            if reader.chance(0.5):
                continue
            if reader.chance(0.1):
                self.honest = False
                whole = bytes((whole[0] ^ 1 + reader.below(255),)) + whole[1:]
            time = int.from_bytes(whole[longest:], "little") | size << 24
            self.rebuilder.take_untrusted(row, first, time, whole[:longest], LARGEST)

    def _segment(self, number: int, member: tuple[int, bytes]) -> None:
        fragment, content = member
        head = HEADER.pack(1, PUSH, fragment, 0, 0, number, 0, len(content))
        self.rebuilder.keep([head + content], LARGEST)


def run(data: bytes) -> None:
    _Peer(Reader(data)).run()


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(11)
    empty = bytes((0x80, DEEDS.index("group"), 3)) + b"\0\0" * 4
    yield "group", empty + b"\xff" + bytes(3) + bytes(2 * MAX_ROWS)
    yield "row", bytes((0x80, DEEDS.index("row"), 0x80, 0x80, 0xC0, 1, 0, 0, 8, 3)) + b"abc"
    for number in range(4):
        yield f"any-{number}", chance.randbytes(600)
