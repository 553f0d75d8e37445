"""The frames that wait for one port's device: fair between flows, bounded, fattest flow dropped.

Flows take turns (deficit round robin), and one that has only now begun to wait goes first, as in
FQ-CoDel (RFC 8290): a ping or a key stroke does not wait behind a transfer that fills the queue.
When the queue is full, the flow with the most bytes in it loses its oldest record, so a flood
costs itself and its sender learns of it soonest. A flow that has waited too long for too long loses
records, too (`codel.py`): the queue may be long enough for the bursts of a path that loses things,
and does not stand.

Flows are told apart by `vswitch.frames.flows`.

Invariants: order is kept within a flow; never more than `max_frames` records, a superframe being
one, or `max_bytes` bytes; every record offered is taken, refused, or still there. Pure; `now` in
seconds, monotonic.
"""

from __future__ import annotations

from collections import deque
from heapq import nlargest

from vswitch.frames.flows import bucket_of
from vswitch.frames.load import load_of
from vswitch.switch.codel import Codel, Patience

# Both bound what a device can make the switch hold. 4,096 small frames are 40 ms of work.
MAX_QUEUED_FRAMES = 4096
# What a path of 250 Mbit/s and 60 ms holds up behind one lost segment comes at once when that has
# been sent again, twice in the worst of usual cases. A flooded record is one object in all queues.
MAX_QUEUED_BYTES = 4 * 1024 * 1024
# Bytes that all queues of a switch hold together, about: what is left of it is what each may have.
POOL_BYTES = 64 * 1024 * 1024
LEAST_SHARE = 64 * 1024  # bytes that a queue may have however little is left: one superframe
# Bytes that a flow may send in its turn: a superframe uses up four turns, a ping has one at once.
QUANTUM = 16 * 1024

NEVER = Patience(None)


class Pool:
    """What several queues hold together. As it fills, each of them may be less long."""

    __slots__ = ("size", "used")

    def __init__(self, size: int = POOL_BYTES) -> None:
        self.size = size
        self.used = 0

    @property
    def share(self) -> int:
        """Bytes that one queue may hold now."""
        return max(LEAST_SHARE, self.size - self.used)


class _Flow:
    __slots__ = ("bytes", "codel", "credit", "key", "records", "since")

    def __init__(self, key: int) -> None:
        self.key = key
        self.records: deque[bytes] = deque()
        self.since: deque[float] = deque()  # when each was offered
        self.bytes = 0
        self.credit = QUANTUM
        self.codel = Codel()


class EgressQueue:
    """Records by flow, bounded in number and in bytes (record headers included)."""

    __slots__ = (
        "_count",
        "_flows",
        "_front",
        "_front_buckets",
        "_late",
        "_new",
        "_old",
        "_pool",
        "bytes",
        "max_bytes",
        "max_frames",
    )

    def __init__(
        self,
        max_frames: int = MAX_QUEUED_FRAMES,
        max_bytes: int = MAX_QUEUED_BYTES,
        pool: Pool | None = None,
    ) -> None:
        """`pool`: shared with other queues; without one this queue has its own."""
        if max_frames < 1 or max_bytes < 1:
            raise ValueError("an egress queue holds at least one frame and one byte")
        self.max_frames = max_frames
        self.max_bytes = max_bytes
        self.bytes = 0  # of all queued records
        self._pool = Pool() if pool is None else pool
        self._count = 0
        self._flows: dict[int, _Flow] = {}
        self._new: deque[_Flow] = deque()  # began to wait since they last sent; served first
        self._old: deque[_Flow] = deque()
        self._front: deque[bytes] = deque()  # put back: these have had their turn
        self._front_buckets: set[int] | None = None  # of those; None until somebody asks
        self._late: list[bytes] = []  # dropped by `take`

    def __len__(self) -> int:
        return self._count

    @property
    def frames(self) -> int:
        """How many frames the queued records stand for; looks at each of them."""
        waiting = [record for flow in self._flows.values() for record in flow.records]
        return load_of([*self._front, *waiting]).frames

    def offer(self, records: list[bytes], now: float = 0.0) -> list[bytes]:
        """Add a batch. Gives the records that have to be dropped for it, of any flow."""
        flows, before = self._flows, self.bytes
        for record in records:
            key = bucket_of(record)
            flow = flows.get(key)
            if flow is None:
                flow = flows[key] = _Flow(key)
                self._new.append(flow)
            flow.records.append(record)
            flow.since.append(now)
            flow.bytes += len(record)
            self.bytes += len(record)
        self._count += len(records)
        self._pool.used += self.bytes - before
        most = min(self.max_bytes, self._pool.share)
        if self._count <= self.max_frames and self.bytes <= most:
            return []
        return self._shed(most)

    def _shed(self, most: int) -> list[bytes]:
        """Drop the oldest of the fattest until all fits. A record too large for the whole queue is
        the fattest flow by itself.
        """
        refused: list[bytes] = []
        while self._count > self.max_frames or self.bytes > most:
            # One look at all flows for the whole batch: a flood of made-up ones has thousands.
            excess = max(1, self._count - self.max_frames)
            fattest = nlargest(excess, self._flows.values(), key=_flow_bytes)
            if not fattest or not fattest[0].records:
                break  # only what was put back is left, and that is on its way out
            for flow in fattest:
                if flow.bytes < fattest[0].bytes or not flow.records:
                    break  # the first is fatter still
                # Half of it at once, so that finding it costs little for each.
                enough = flow.bytes // 2
                while (
                    (self._count > self.max_frames or self.bytes > most)
                    and flow.bytes >= enough
                    and flow.records
                ):
                    refused.append(self._pop(flow))
        return refused

    def _pop(self, flow: _Flow) -> bytes:
        record = flow.records.popleft()
        flow.since.popleft()
        size = len(record)
        flow.bytes -= size
        self._forget(size)
        return record

    def _forget(self, size: int) -> None:
        """A record of that size has left."""
        self.bytes -= size
        self._pool.used -= size
        self._count -= 1

    def take(self, max_bytes: int, now: float = 0.0, patience: Patience = NEVER) -> list[bytes]:
        """Remove records in their turn, up to `max_bytes` but at least one; none when empty. Those
        that waited too long are dropped instead: see `take_late`.
        """
        taken: list[bytes] = []
        size = 0
        front = self._front
        self._front_buckets = None
        while front and (not taken or size + len(front[0]) <= max_bytes):
            record = front.popleft()
            size += len(record)
            self._forget(len(record))
            taken.append(record)
        if front:
            return taken
        while flows := self._new or self._old:
            flow = flows[0]
            if not flow.records:
                # An emptied new flow waits behind the old ones once, or it would be new for ever.
                flows.popleft()
                if flows is self._new and self._old:
                    self._old.append(flow)
                else:
                    del self._flows[flow.key]
            elif flow.credit <= 0:
                flow.credit += QUANTUM
                flows.popleft()
                self._old.append(flow)
            elif taken and size + len(flow.records[0]) > max_bytes:
                break
            else:
                waited, last = now - flow.since[0], len(flow.records) == 1
                record = self._pop(flow)
                if flow.codel.drops(waited, patience, now, last=last):
                    self._late.append(record)
                    continue
                flow.credit -= len(record)
                size += len(record)
                taken.append(record)
        return taken

    def take_late(self) -> list[bytes]:
        """The records that `take` has dropped since the last call."""
        late, self._late = self._late, []
        return late

    def waits(self, bucket: int) -> bool:
        """Whether a record of that bucket waits."""
        flow = self._flows.get(bucket)
        if flow is not None and flow.records:
            return True
        if not self._front:
            return False
        if self._front_buckets is None:
            self._front_buckets = set(map(bucket_of, self._front))
        return bucket in self._front_buckets

    def put_back(self, records: list[bytes]) -> None:
        """Return to the front, in their order, records that `take` gave and nobody wanted."""
        self._front.extendleft(reversed(records))
        self._front_buckets = None
        size = sum(map(len, records))
        self.bytes += size
        self._pool.used += size
        self._count += len(records)

    def clear(self) -> None:
        """Remove everything."""
        self._flows.clear()
        self._new.clear()
        self._old.clear()
        self._front.clear()
        self._front_buckets = None
        self._pool.used -= self.bytes
        self.bytes = self._count = 0


def _flow_bytes(flow: _Flow) -> int:
    return flow.bytes
