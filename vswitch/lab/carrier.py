"""The process behind a `Wire`: it carries frames from each TAP to the other, as the specs say.

    python -m vswitch.lab.carrier FD_A FD_B FD_CONTROL

The first message on the control connection is a `WireSpec`; then come pickled `(verb, *arguments)`,
and back goes `(True, result)` or `(False, error)`. The end of that connection, or of an
interface, is the end of the process.

It is one plain loop, for every microsecond here is added to every packet: sleep in `select`
(the one call of Python 3.11 with a timeout finer than a millisecond), write what is due, read
what is there. It asks for a timer slack of a nanosecond and for a real-time priority, so that it
comes to run in time also beside programs that fill every core; without the privilege it goes on.

Invariants: rates and MTUs count IP packets, without the Ethernet header; frames that are due at
the same time leave in the order in which they came; nothing is read twice or without a count.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import math
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from multiprocessing.connection import Connection

from transport.emulation import Direction, PathSpec, flip
from vswitch.devices.tap import DEVICE_GONE, ETHERNET_OVERHEAD
from vswitch.frames.ethernet import MAX_MTU
from vswitch.lab.job import Carried, WireSpec
from vswitch.lab.nat import Frame, Nat

ETHERNET = 14  # bytes of header, which neither rate nor MTU count
READ_SIZE = MAX_MTU + ETHERNET_OVERHEAD  # bytes: the longest frame
BATCH = 64  # frames read before the clock is read and the other side gets its turn: about 0.1 ms
LATE = 0.001  # s behind its time from which on a frame counts as late
PRIORITY = 1  # the lowest of the real-time ones: above every ordinary program, below the kernel's
PR_SET_TIMERSLACK = 29  # linux/prctl.h


class _Lane:
    """One direction: what is under way, and where it comes from and goes to."""

    def __init__(self, source: int, sink: int, way: Direction) -> None:
        self.way = way
        self.late = self.refused = 0
        self.worst = 0.0
        self._source = source
        self._sink = sink
        # Nearly all frames arrive in the order in which they leave: those need no heap.
        self._straight: deque[tuple[float, Frame]] = deque()
        self._crooked: list[tuple[float, int, Frame]] = []
        self._serial = 0

    def translated(self, frame: Frame, now: float) -> Frame | None:
        """The frame as it enters the path."""
        return frame

    def restored(self, frame: Frame, now: float) -> Frame | None:
        """The frame as it leaves the path."""
        return frame

    def take(self, now: float) -> None:
        """Read a batch from the source and settle when it arrives. HOT PATH."""
        source, offer, straight = self._source, self.way.offer, self._straight
        try:
            for _ in range(BATCH):
                frame: Frame | None = os.read(source, READ_SIZE)
                frame = self.translated(frame, now)  # type: ignore[arg-type]
                if frame is None:
                    continue
                for due, bit in offer(len(frame) - ETHERNET, now):
                    copy = frame if bit is None else flip(bytes(frame), bit, ETHERNET)
                    if not straight or due >= straight[-1][0]:
                        straight.append((due, copy))
                    else:
                        self._serial += 1
                        heappush(self._crooked, (due, self._serial, copy))
        except BlockingIOError:
            pass

    def deliver(self, now: float) -> float:
        """Write what is due; when there is more to do. HOT PATH."""
        straight, crooked, sink = self._straight, self._crooked, self._sink
        while True:
            due = straight[0][0] if straight else math.inf
            if crooked and crooked[0][0] < due:
                if crooked[0][0] > now:
                    return crooked[0][0]
                due, _, frame = heappop(crooked)
            elif due > now:
                return due
            else:
                frame = straight.popleft()[1]
            if now - due > self.worst:
                self.worst = now - due
            if now - due > LATE:
                self.late += 1
            whole = self.restored(frame, now)
            if whole is None:
                continue
            try:
                os.write(sink, whole)
            except OSError as error:
                if error.errno in DEVICE_GONE:
                    raise
                self.refused += 1  # the interface is down, or the kernel has no memory


class _Outward(_Lane):
    """From a NAT to the world."""

    def __init__(self, source: int, sink: int, way: Direction, nat: Nat) -> None:
        super().__init__(source, sink, way)
        self.translated = nat.outward  # type: ignore[method-assign]


class _Inward(_Lane):
    """From the world to a NAT: ports are looked up when the frame has come as far."""

    def __init__(self, source: int, sink: int, way: Direction, nat: Nat) -> None:
        super().__init__(source, sink, way)
        self.restored = nat.inward  # type: ignore[method-assign]


def main(a: int, b: int, control: int) -> None:
    connection: Connection = Connection(control)
    try:
        job: WireSpec = connection.recv()
        _hurry()
        carrier = _Carrier(a, b, job)
        connection.send((True, None))
        carrier.run(connection)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        pass  # the lab is over
    except OSError as error:
        if error.errno not in DEVICE_GONE:
            raise


class _Carrier:
    def __init__(self, a: int, b: int, job: WireSpec) -> None:
        self.a, self.b = a, b
        ways = (Direction(job.forward, job.seed), Direction(job.back, job.seed + 1))
        self.nat = None if job.nat is None else Nat(job.nat, job.seed + 2)
        if self.nat is None:
            self.forward, self.back = _Lane(a, b, ways[0]), _Lane(b, a, ways[1])
        else:
            self.forward = _Outward(a, b, ways[0], self.nat)
            self.back = _Inward(b, a, ways[1], self.nat)

    def run(self, connection: Connection) -> None:
        a, b, clock = self.a, self.b, time.monotonic
        forward, back, wait = self.forward, self.back, select.select
        control = connection.fileno()
        fds = [a, b, control]
        while True:
            now = clock()
            due = min(forward.deliver(now), back.deliver(now))
            # Writing took its time, in which the next may have become due.
            pause = None if due == math.inf else max(due - clock(), 0.0)
            ready = wait(fds, (), (), pause)[0]
            if not ready:
                continue
            now = clock()
            if a in ready:
                forward.take(now)
            if b in ready:
                back.take(now)
            if control in ready:
                self._answer(connection)

    def _answer(self, connection: Connection) -> None:
        verb, *arguments = connection.recv()
        verbs: dict[str, Callable[..., Carried | None]] = {
            "change": self._change,
            "rebind": self._rebind,
            "carried": self._carried,
        }
        try:
            result = verbs[verb](*arguments)
        except Exception as error:  # it is the asker's, who is told
            connection.send((False, repr(error)))
        else:
            connection.send((True, result))

    def _change(self, forward: PathSpec | None, back: PathSpec | None) -> None:
        now = time.monotonic()
        for lane, spec in ((self.forward, forward), (self.back, back)):
            if spec is not None:
                lane.way.change(spec, now)

    def _rebind(self) -> None:
        if self.nat is None:
            raise ValueError("this wire has no NAT")
        self.nat.rebind(time.monotonic())

    def _carried(self) -> Carried:
        forward, back = self.forward, self.back
        return Carried(
            forward.way.counts,
            back.way.counts,
            self.nat.counts if self.nat else None,
            self.nat.ports if self.nat else [],
            forward.late + back.late,
            max(forward.worst, back.worst),
            forward.refused + back.refused,
        )


def _hurry() -> None:
    """Whatever makes this process run when it has to."""
    gc.disable()  # nothing here makes cycles
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):
            raise


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
