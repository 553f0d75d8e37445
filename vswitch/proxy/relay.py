"""Two streams as one connection: what comes on either goes out on the other.

Invariants: at most `CHUNK` bytes a direction are held, and none while nobody sends; a source is
read no further before its sink has taken what was read, so a slow reader slows the writer. The end
of one direction is passed on as such (half-close), and the other direction goes on. A reset on
either side becomes a reset on the other, so that neither takes a broken stream for a whole one; who
is cancelled resets both.

All relays of a Trio run share one edge-triggered epoll(7), whose task moves what is ready, for
about a millisecond before others have theirs: with a thousand connections, a task woken for each
read and each write costs three times what the kernel does with the bytes. Each relay has a task of
its own all the same, which waits for its end.

Error contract: the streams are closed in any case; `relay` says how it ended. A fault is raised by
the relay that has it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

import trio
from attrs import define, field

CHUNK: Final = 128 * 1024  # bytes of one read: half the system calls of 64 KiB, at twice the memory
EVENTS: Final = 64  # that are asked for at once: as many chunks are moved, at most
_POLLS: Final = 4  # of them in a turn, while it has lasted less than
_TURN: Final = 0.001  # seconds: frames and others wait so long
_LINGER: Final = struct.pack("ii", 1, 0)  # closing sends a reset (SO_LINGER of socket(7))
# linux/eventpoll.h; not by name, as other systems import this, too.
_IN, _OUT, _ERR, _HUP, _RDHUP, _ET = 0x1, 0x4, 0x8, 0x10, 0x2000, 1 << 31
_HANGS: Final = _RDHUP | _HUP
_BREAKS: Final = _ERR | _HUP
_ALL: Final = _IN | _OUT | _RDHUP | _ET


class End(Enum):
    """How a connection came to its end."""

    DONE = "done"
    RESET = "reset"
    IDLE = "idle"


@define
class Traffic:
    """Bytes that were passed on: `up` to the target, `down` to whoever asked for it."""

    up: int = 0
    down: int = 0


@define(eq=False)
class IdleLimit:
    """How long a silence may last, in seconds, infinite for ever. Who waits hears of a change."""

    limit: float
    _waiting: set[trio.CancelScope] = field(factory=set, init=False)

    def change(self, limit: float) -> None:
        """Another limit, also for what is silent now."""
        if limit != self.limit:
            self.limit = limit
            for scope in self._waiting:
                scope.cancel()

    def ends(self, last: float) -> bool:
        """Whether there has been silence for so long since that moment on Trio's clock."""
        return last + self.limit <= trio.current_time()

    @contextmanager
    def until(self, last: float) -> Iterator[None]:
        """Cancel what is in it when the silence since then is long enough, or may be so now."""
        with trio.CancelScope(deadline=last + self.limit) as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)


class Silence:
    """How long nothing has passed, on Trio's clock."""

    def __init__(self, limit: IdleLimit) -> None:
        self._limit = limit
        self.broken()

    def broken(self) -> None:
        """Something has passed now."""
        self._last = trio.current_time()

    async def reached(self) -> None:
        """Wait until it has lasted as long as its limit."""
        while not self._limit.ends(self._last):
            with self._limit.until(self._last):
                await trio.sleep_forever()


def of_socket(sock: trio.socket.SocketType) -> trio.SocketStream:
    """A connected stream socket as a stream that takes a whole chunk at once."""
    stream = trio.SocketStream(sock)
    if sock.family != socket.AF_UNIX:
        # Trio's choice is for programs that want to change their mind about what to send.
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, CHUNK)
    return stream


def reset(stream: trio.abc.AsyncResource) -> None:
    """Have the other end of a socket see a reset when this one is closed."""
    if isinstance(stream, trio.SocketStream) and stream.socket.family != socket.AF_UNIX:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)


@define(eq=False)
class _Half:
    """One direction."""

    relay: _Relay
    source: trio.SocketStream
    sink: trio.SocketStream
    up: bool
    rest: bytes | memoryview = b""  # that the sink has not taken
    hung: bool = False  # the source sends no more, and what it has sent may still be there
    ended: bool = False
    read_from: int = field(init=False)  # descriptors
    write_to: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.read_from, self.write_to = self.source.socket.fileno(), self.sink.socket.fileno()

    def move(self, flags: int) -> bool:
        """Carry on, up to one chunk; whether there may be more though no event says so. `flags` are
        those of the source. `OSError` for a connection that is broken.
        """
        # HOT PATH
        if flags & _HANGS:
            self.hung = True
        if self.rest and not self._write(self.rest):
            self._check(flags)
            return False
        if self.ended:
            self._check(flags)
            return False
        try:
            data = os.read(self.read_from, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.ended = True
            self.sink.socket.shutdown(socket.SHUT_WR)
            self.relay.half_is_over()
            return False
        return self._write(data) and (self.hung or len(data) == CHUNK)

    def _write(self, data: bytes | memoryview) -> bool:
        """Whether all of it is gone."""
        try:
            sent = os.write(self.write_to, data)
        except BlockingIOError:
            sent = 0
        if self.up:
            self.relay.traffic.up += sent
        else:
            self.relay.traffic.down += sent
        if sent == len(data):
            self.rest = b""
            return True
        self.rest = memoryview(data)[sent:]
        return False

    def _check(self, flags: int) -> None:
        """Of a source that is not read now: whether it is broken."""
        if flags & _BREAKS:
            error = self.source.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))


@define(eq=False)
class _Relay:
    traffic: Traffic
    last: float  # moment of the last event, on Trio's clock
    end: End = End.DONE
    fault: Exception | None = None
    going: int = 2  # directions
    over: trio.Event = field(factory=trio.Event)

    def half_is_over(self) -> None:
        self.going -= 1
        if not self.going:
            self.over.set()


class _Pump:
    """Moves what is ready, of all relays."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # By descriptor: what is read from it, and what is written to it.
        self._halves: dict[int, tuple[_Half, _Half]] = {}
        self._again: list[_Half] = []

    def add(self, up: _Half, down: _Half) -> None:
        """An event for each end follows, as it can be written to."""
        for reads, writes in ((up, down), (down, up)):
            self._epoll.register(reads.read_from, _ALL)
            self._halves[reads.read_from] = reads, writes

    def remove(self, *halves: _Half) -> None:
        """Before they are closed; of those that could be added."""
        for half in halves:
            if self._halves.pop(half.read_from, None) is not None:
                self._epoll.unregister(half.read_from)

    async def run(self) -> None:
        """Until cancelled."""
        with self._epoll:
            while True:
                if self._again:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll)
                self._turn(trio.current_time())

    def _turn(self, now: float) -> None:
        # HOT PATH
        again, self._again = self._again[:EVENTS], self._again[EVENTS:]
        for half in again:
            self._step(half, 0, now)
        halves = self._halves
        for _ in range(_POLLS):
            events = self._epoll.poll(0, EVENTS)
            for fd, flags in events:
                if (both := halves.get(fd)) is None:
                    continue
                reads, writes = both
                if flags & ~_OUT:
                    self._step(reads, flags, now)
                if flags & _OUT and writes.rest:
                    self._step(writes, 0, now)
            if len(events) < EVENTS or trio.current_time() - now >= _TURN:
                break

    def _step(self, half: _Half, flags: int, now: float) -> None:
        relay = half.relay
        if relay.over.is_set():
            return
        relay.last = now
        try:
            if half.move(flags):
                self._again.append(half)
        except OSError:
            relay.end = End.RESET
            relay.over.set()
        except Exception as fault:
            relay.fault = fault
            relay.over.set()


_pump_of_run: Final = trio.lowlevel.RunVar[_Pump]("pump of relays")


def _pump() -> _Pump:
    """That of this Trio run; its task ends with the run."""
    try:
        return _pump_of_run.get()
    except LookupError:
        pump = _Pump()
        _pump_of_run.set(pump)
        trio.lowlevel.spawn_system_task(pump.run)
        return pump


async def relay(
    near: trio.SocketStream,
    far: trio.SocketStream,
    traffic: Traffic,
    *,
    idle: IdleLimit,
    early: bytes = b"",
) -> End:
    """Carry both directions until both have ended, and close the streams.

    Args:
        traffic: what is added to.
        idle: how long no byte may pass in either direction before both are reset.
        early: bytes that `near` has sent already.
    """
    async with near, far:
        pump, both = _pump(), _Relay(traffic, trio.current_time())
        up, down = _Half(both, near, far, True, early), _Half(both, far, near, False)
        try:
            pump.add(up, down)
            while not both.over.is_set():
                if idle.ends(both.last):
                    both.end = End.IDLE
                    break
                with idle.until(both.last):
                    await both.over.wait()
        finally:
            both.over.set()  # also for what `_again` has
            pump.remove(up, down)
            if both.going:
                reset(near)
                reset(far)
        if both.fault is not None:
            raise both.fault
    return both.end
