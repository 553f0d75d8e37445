"""Parity of segments: what the path has lost is computed from what it brought, not awaited.

Some segments in a row are a group, and rows of parity follow it; any so many of a group's segments
as rows have come can be computed (a Reed-Solomon code). A group is a small part of a round trip, so
what waits behind a hole waits milliseconds instead of a round trip and more. How much parity leaves
follows from how much is lost, and how long a group is from how many segments are under way; where
nothing is lost, or little is sent, there is none.

The code. A segment of a group whose longest content has L bytes is the little-endian number of
L + 3 bytes: content, zeros, size u16, fragment u8. It is read as eight stripes of L + 3 bits; bit n
of stripe b is the coefficient of x^b in the n-th element of the field GF(2)[x] modulo
x^8 + x^4 + x^3 + x^2 + 1. So all elements are multiplied by x by moving whole stripes, which
integers do at once. Row j of a group m_0 ... m_(k-1) is the sum of x^(j (k-1-i)) m_i. Few sets of
losses leave equations that depend on each other (none, where the first rows are there and up to
three are needed): those segments are repeated like others.

On the wire a row is a KCP segment (`lanes/segments.py`) in a unit of its own: `fragment` is j,
`number` the first of the group, `time` the last three bytes of the row and k, the content the rest.

Invariants: sender and receiver keep the contents of `MAX_GROUP` and `KEPT` segments at most, each
of one datagram, and the receiver rows of `MOST_WAITING` groups. Pure.
Error contract: `BadPacket("bad_parity")` for a row that can be of no group, or rows that
contradict what has come; nothing changes then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import Final

from transport.constants import KCP_HEADER_SIZE
from transport.errors import BadPacket
from transport.lanes.segments import HEADER, PUSH, ROUND

MAX_ROWS: Final = 8  # of a group
MAX_GROUP: Final = 48  # segments; more would take longer to compute than it saves rows
MIN_GROUP: Final = 8  # shorter ones are more parity than a copy of what is lost costs
PER_ROUND: Final = 4  # groups in a round trip: known before the sender takes a segment for lost
# Rows for a group that loses `n` segments on average: n + DEVIATIONS * sqrt(n), so that one full
# group in 100 is not computed, about, at 1 % loss, and one in 50 at 5 %, where `PER_ROW` bounds it.
DEVIATIONS: Final = 3.0
PER_ROW: Final = 8  # segments at least: an eighth more on the wire
MIN_LOSS: Final = 0.0005  # share of what is sent, below which it is not worth it
# Bytes a second that may leave, below which there is none: a row would be 1.4 ms of queue.
MIN_PACE: Final = 1e6
KEPT: Final = 4 * MAX_GROUP  # segments: what comes behind a group, before its rows, may overtake
MOST_WAITING: Final = 8  # groups with fewer rows than losses: a late segment may complete them
KEEP_FOR: Final = 1024  # segments without a row, after which nothing is kept any more
KEPT_COST: Final = 128  # bytes that a kept segment counts beside its content
_TAG: Final = 3  # bytes: size and fragment
_EXP: Final = [1] * 255  # powers of x
for _at in range(1, 255):
    _EXP[_at] = _EXP[_at - 1] << 1 ^ (0x11D if _EXP[_at - 1] & 0x80 else 0)
_LOG: Final = {_value: _power for _power, _value in enumerate(_EXP)}


def rows_for(loss: float, members: int) -> int:
    """How many rows a group of so many segments should have, at this share of losses."""
    expected = loss * members
    wanted = ceil(expected + DEVIATIONS * sqrt(expected))
    return max(1, min(MAX_ROWS, members // PER_ROW, wanted))


# --- The code -----------------------------------------------------------------------------------


def encode(members: Sequence[tuple[int, bytes]], rows: int) -> list[bytes]:
    """The first so many rows of a group of (fragment, content)."""
    longest = max(len(content) for _, content in members)
    width, numbers = longest + _TAG, [_number(member, longest) for member in members]
    return [_row(row, numbers, width).to_bytes(width, "little") for row in range(rows)]


def rebuild(
    members: Sequence[tuple[int, bytes] | None], rows: Mapping[int, bytes]
) -> list[tuple[int, bytes]] | None:
    """The members that are None, in their order; `rows` by their number, all of one size. None if
    there are too few. Raises `BadPacket`.
    """
    lost = [at for at, member in enumerate(members) if member is None]
    width = len(next(iter(rows.values())))
    longest = width - _TAG
    if any(member is not None and len(member[1]) > longest for member in members):
        raise BadPacket("bad_parity")
    numbers = [0 if member is None else _number(member, longest) for member in members]
    last = len(members) - 1
    equations = [
        (
            [_EXP[row * (last - at) % 255] for at in lost],
            int.from_bytes(content, "little") ^ _row(row, numbers, width),
        )
        for row, content in rows.items()
    ]
    found = _solve(equations, len(lost), width)
    return None if found is None else [_member(number, longest) for number in found]


def _number(member: tuple[int, bytes], longest: int) -> int:
    fragment, content = member
    tag = len(content) | fragment << 16
    return int.from_bytes(content, "little") | tag << 8 * longest


def _member(number: int, longest: int) -> tuple[int, bytes]:
    tag = number >> 8 * longest
    fragment, size = tag >> 16, tag & 0xFFFF
    content = (number & (1 << 8 * longest) - 1).to_bytes(longest, "little")
    if size > longest or any(content[size:]):
        raise BadPacket("bad_parity")
    return fragment, content[:size]


def _times(number: int, power: int, width: int) -> int:
    """All elements times x^power; `width` in bits of a stripe. HOT PATH where the path loses."""
    while power > 4:  # of more stripes the uppermost would have to come down twice
        number, power = _times(number, 4, width), power - 4
    if not power:
        return number
    stay = (8 - power) * width
    top = number >> stay
    low = number ^ top << stay
    return low << power * width ^ top ^ top << 2 * width ^ top << 3 * width ^ top << 4 * width


def _row(row: int, numbers: Sequence[int], width: int) -> int:
    total = 0
    for number in numbers:
        total = _times(total, row, width) ^ number
    return total


def _scaled(number: int, factor: int, width: int) -> int:
    """All elements times `factor`, an element."""
    total = 0
    while factor:
        if factor & 1:
            total ^= number
        factor >>= 1
        number = _times(number, 1, width)
    return total


def _product(one: int, other: int) -> int:
    return _EXP[(_LOG[one] + _LOG[other]) % 255] if one and other else 0


def _solve(equations: list[tuple[list[int], int]], unknown: int, width: int) -> list[int] | None:
    """Gauss and Jordan; None where the equations do not say it all."""
    solved: list[tuple[list[int], int]] = []
    for column in range(unknown):
        at = next((n for n, (factors, _) in enumerate(equations) if factors[column]), None)
        if at is None:
            return None
        factors, number = equations.pop(at)
        inverse = _EXP[-_LOG[factors[column]] % 255]
        pivot = [_product(factor, inverse) for factor in factors], _scaled(number, inverse, width)
        solved, equations = (
            [_without(each, pivot, column, width) for each in some] for some in (solved, equations)
        )
        solved.append(pivot)
    return [number for _, number in solved]


def _without(
    equation: tuple[list[int], int], pivot: tuple[list[int], int], column: int, width: int
) -> tuple[list[int], int]:
    """The equation, without the unknown of that column."""
    factors, number = equation
    factor = factors[column]
    if not factor:
        return equation
    less = [one ^ _product(factor, other) for one, other in zip(factors, pivot[0], strict=True)]
    return less, number ^ _scaled(pivot[1], factor, width)


# --- The two ends -------------------------------------------------------------------------------


class Groups:
    """The sender's half: which segments are a group, and its rows."""

    __slots__ = ("_first", "_members", "_rows", "_size", "next")

    def __init__(self) -> None:
        self.next = 0  # number of the segment that `add` expects
        self._members: list[tuple[int, bytes]] = []
        self._first = self._size = self._rows = 0

    @property
    def covering(self) -> bool:
        """A group is under construction, or has just been completed."""
        return self._size > 0

    def begin(self, number: int) -> None:
        """The next segment begins a group: what came before it is of none."""
        self.next = number
        self._size = 0
        self._members.clear()

    def add(
        self, fragment: int, content: bytes, largest: int, loss: float, under_way: int
    ) -> list[tuple[int, int, int, bytes]]:
        """A segment that leaves for the first time; what has more than `largest` bytes is of no
        group. Gives the rows, as (j, number, `time`, content), when a group is complete; `loss` is
        the share of what is lost, `under_way` segments on their way. HOT PATH where the path loses.
        """
        if len(content) > largest:
            self.begin(self.next + 1 & ROUND)
            return []
        members = self._members
        if not members:
            size = min(MAX_GROUP, under_way // PER_ROUND)
            if size < MIN_GROUP or loss < MIN_LOSS:
                self.begin(self.next + 1 & ROUND)
                return []
            self._first, self._size, self._rows = self.next, size, rows_for(loss, size)
        members.append((fragment, content))
        self.next = self.next + 1 & ROUND
        if len(members) < self._size:
            return []
        found = [
            (
                number,
                self._first,
                int.from_bytes(row[-_TAG:], "little") | len(members) << 8 * _TAG,
                row[:-_TAG],
            )
            for number, row in enumerate(encode(members, self._rows))
        ]
        members.clear()
        return found


class Rebuilder:
    """The receiver's half: what it takes to compute what is missing."""

    __slots__ = ("_kept", "_since", "_waiting", "active", "held")

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        # By the first number of a group: how many segments, and its rows.
        self._waiting: OrderedDict[int, tuple[int, dict[int, bytes]]] = OrderedDict()
        self._since = 0  # segments since a row has come
        self.active = False  # rows come: segments have to be kept
        self.held = 0  # bytes of all that is kept, with `KEPT_COST` for each segment

    def keep(self, datagrams: Sequence[bytes], largest: int) -> None:
        """The segments of datagrams that KCP has taken, with up to `largest` bytes. HOT PATH where
        rows come.
        """
        kept, unpack = self._kept, HEADER.unpack_from
        for datagram in datagrams:
            at, end = 0, len(datagram)
            while at + KCP_HEADER_SIZE <= end:
                _, command, fragment, _, _, number, _, size = unpack(datagram, at)
                start = at + KCP_HEADER_SIZE
                at = start + size
                if command == PUSH and size <= largest and at <= end:
                    self._put(number, fragment, datagram[start:at])
        while len(kept) > KEPT:
            self._forget()
        if self._since >= KEEP_FOR:
            self.clear()

    def _put(self, number: int, fragment: int, content: bytes) -> None:
        self._since += 1
        if number not in self._kept:
            self._kept[number] = fragment, content
            self.held += len(content) + KEPT_COST

    def _forget(self) -> None:
        _, (_, content) = self._kept.popitem(last=False)
        self.held -= len(content) + KEPT_COST

    def take_untrusted(self, row: int, first: int, time: int, content: bytes, largest: int) -> None:
        """A row of a group has come. Raises `BadPacket`."""
        size = time >> 8 * _TAG
        if row >= MAX_ROWS or not 0 < size <= MAX_GROUP or len(content) > largest:
            raise BadPacket("bad_parity")
        self._since, self.active = 0, True
        whole = content + (time & (1 << 8 * _TAG) - 1).to_bytes(_TAG, "little")
        known, rows = self._waiting.setdefault(first, (size, {}))
        if known != size or any(len(other) != len(whole) for other in rows.values()):
            raise BadPacket("bad_parity")
        if row not in rows:
            rows[row] = whole
            self.held += len(whole)
        while len(self._waiting) > MOST_WAITING:
            self._drop(next(iter(self._waiting)))

    def _drop(self, first: int) -> None:
        _, rows = self._waiting.pop(first)
        self.held -= sum(map(len, rows.values()))

    def rebuilt(self) -> list[tuple[int, int, bytes]]:
        """Segments that can be computed now, as (number, fragment, content), each group once.
        Raises `BadPacket`; what is found bad is forgotten.
        """
        found: list[tuple[int, int, bytes]] = []
        for first, (size, rows) in list(self._waiting.items()):
            numbers = [first + at & ROUND for at in range(size)]
            members = [self._kept.get(number) for number in numbers]
            if members.count(None) > len(rows):
                continue
            self._drop(first)
            if None in members:
                lost = [n for n, member in zip(numbers, members, strict=True) if member is None]
                new = rebuild(members, rows)
                if new is not None:
                    found += [(n, *member) for n, member in zip(lost, new, strict=True)]
        return found

    def clear(self) -> None:
        """Nothing is kept."""
        self._kept.clear()
        self._waiting.clear()
        self._since, self.held, self.active = 0, 0, False
