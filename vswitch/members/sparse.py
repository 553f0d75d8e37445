"""Sparse flows: chooses the lane of each record, bulk, or sparse for flows that send little.

A ping, a key stroke or a DNS query must not wait until a transfer's lost segment has been repeated.
So while the bulk lane is busy, small frames of flows that have sent little lately take the sparse
lane, which is another stream with losses of its own.

Order within a flow is kept, always:

 to sparse   only when all that the flow sent on the bulk lane has reached the peer
 to bulk     at once; where something of the flow went over the sparse lane since the last fence,
             the batch needs one: a mark in the bulk stream behind which the peer handles nothing
             before it has handled what the sparse lane was given until then. That it has arrived is
             not enough: a peer that reads late, or holds a fence, may not have handled it

While the bulk lane is calm a batch goes there without a look at its records, once a fence covers
all that was sparse. What was not looked at may be of any flow, so a flow that is not known is taken
to have sent there last.

The peer's half of the contract: it handles a sparse message only after all bulk messages that had
arrived before it, up to the first fence that still holds (`vswitch/members/incoming.py`).

Flows are those of the egress queue: a bounded number of buckets; flows that share one share its
fate. Pure: `now` in seconds, monotonic; progress is that of the channel, in messages. No errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NamedTuple

from vswitch.frames.flows import bucket_of
from vswitch.frames.records import FRAME_FLAG

# Messages given to the bulk lane, how many of the first of them have arrived; the same of the
# sparse one.
Progress = tuple[int, int, int, int]

RATE: Final = 32_000  # bytes a second that a sparse flow sends: a game, a call, an eager typist
DEPTH: Final = 4_000  # bytes that it may send at once: a handshake, a screen of text
MOST_SPARSE: Final = 1_200  # bytes of a record: a full-size frame belongs to a transfer
CALM: Final = 4  # messages of bulk under way that nobody minds to wait for
MOST_LOOKED: Final = 64  # records of a batch that are worth looking at


_BURST: Final = DEPTH / RATE  # seconds that the whole bucket is worth
_PER_BYTE: Final = 1 / RATE


class _Flow:
    """Where a flow sent last, as the number of messages of that lane up to then; and its bucket,
    kept as the time when it will be full again, less the time that filling it takes.
    """

    __slots__ = ("bulk", "empty_until", "sparse")

    def __init__(self, bulk: float) -> None:
        self.bulk = bulk
        self.sparse: float = 0
        self.empty_until = -inf


class Choice(NamedTuple):
    """Where the first `taken` records of a batch go. The sparse ones are sent first."""

    taken: int
    bulk: list[bytes]
    sparse: list[bytes]
    fence: bool  # the bulk ones may be handled only after all that is sparse so far


class LaneChooser:
    """The choice for one direction of a session.

    Either `skips` and then `skipped`, or `choose` or `overtake` and then `sent`.
    """

    __slots__ = ("_fence", "_flows", "_on_bulk", "_on_sparse", "_skipped")

    def __init__(self) -> None:
        self._flows: dict[int, _Flow] = {}
        self._skipped = 0  # messages of bulk up to here may hold records of any flow
        self._fence = 0  # messages of sparse up to here are handled before what bulk brings now
        self._on_bulk: list[_Flow] = []  # of the batch that was chosen last
        self._on_sparse: list[_Flow] = []

    def skips(self, progress: Progress, count: int) -> bool:
        """Whether a batch of so many records goes to bulk without a look. HOT PATH."""
        sent, arrived, sparse_sent, sparse_arrived = progress
        return sparse_sent == sparse_arrived == self._fence and (
            sent - arrived <= CALM or count > MOST_LOOKED
        )

    def skipped(self, sent: int) -> None:
        """A batch was given to bulk without a look; `sent` with it. HOT PATH."""
        self._skipped = sent
        if self._flows:  # nobody's place is further on, so the one number stands for all
            self._flows.clear()

    def choose(
        self,
        records: Sequence[bytes],
        progress: Progress,
        credit: int,
        sparse_credit: int,
        now: float,
    ) -> Choice:
        """Sort a batch, up to the record that exhausts the bulk lane's credit. HOT PATH."""
        sent, arrived, sparse_sent, sparse_arrived = progress
        busy = sent - arrived > CALM
        fenced = self._fence
        bulk: list[bytes] = []
        sparse: list[bytes] = []
        # When sparse is done with, one fence more, and batches need no look any longer.
        fence = not busy and fenced < sparse_sent == sparse_arrived
        full, half, most = now - _BURST, now - _BURST / 2, now + _BURST
        flows = self._flows
        for record in records:
            bucket = bucket_of(record)
            flow = flows.get(bucket)
            if flow is None:
                flow = flows[bucket] = _Flow(self._skipped)
            size = len(record)
            empty_until = flow.empty_until
            unsettled = flow.sparse > sparse_arrived
            if (
                size <= MOST_SPARSE
                # To come back to this lane takes more than to stay: a flow does not go to and fro.
                and empty_until < (now if unsettled else half)
                and flow.bulk <= arrived
                and (busy or unsettled)
                and sparse_credit > 0
                and record[1] == FRAME_FLAG
            ):
                sparse_credit -= size
                flow.sparse = inf
                sparse.append(record)
                self._on_sparse.append(flow)
            elif credit > 0:
                credit -= size
                if flow.sparse > fenced:
                    fence = True
                if flow.bulk != inf:
                    flow.bulk = inf
                    self._on_bulk.append(flow)
                bulk.append(record)
            else:
                break
            if empty_until < most:  # a large debt is no larger than a burst
                flow.empty_until = (full if empty_until < full else empty_until) + min(
                    size, DEPTH
                ) * _PER_BYTE
        return Choice(len(bulk) + len(sparse), bulk, sparse, fence and bool(bulk))

    def overtake(
        self,
        records: Sequence[bytes],
        progress: Progress,
        sparse_credit: int,
        waits: Callable[[int], bool],
        now: float,
    ) -> tuple[list[bytes], list[bytes]]:
        """The records that may pass those which wait for the bulk lane, and the rest.

        `waits`: whether a record of that bucket waits already.
        """
        passing: list[bytes] = []
        rest: list[bytes] = []
        behind: set[int] = set()
        _, arrived, sparse_sent, sparse_arrived = progress
        # What waits says that bulk is busy, and it has no credit: a record is sparse or stays.
        busy = arrived + CALM + 1, arrived, sparse_sent, sparse_arrived
        for record in records:
            bucket = bucket_of(record)
            if (
                len(record) <= MOST_SPARSE
                and bucket not in behind
                and not waits(bucket)
                and self.choose((record,), busy, 0, sparse_credit, now).taken
            ):
                sparse_credit -= len(record)
                passing.append(record)
            else:
                behind.add(bucket)
                rest.append(record)
        return passing, rest

    def sent(self, progress: Progress, *, fence: bool = False) -> None:
        """What was chosen has been given to the lanes, behind a fence if one was asked for."""
        sent, _, sparse_sent, _ = progress
        for flow in self._on_bulk:
            flow.bulk = sent
        for flow in self._on_sparse:
            flow.sparse = sparse_sent
        self._on_bulk.clear()
        self._on_sparse.clear()
        if fence:
            self._fence = sparse_sent
