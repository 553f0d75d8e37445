"""Framed TCP, and QEMU's stream: a client is a connection, and its end is that of the port."""

from __future__ import annotations

import errno
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from vswitch.addresses import HostPort
from vswitch.foreign.client_limit import ClientLimit, note_fault
from vswitch.foreign.formats import FramedStream
from vswitch.foreign.sockets import Address, client_socket, find, holder_of, shown
from vswitch.foreign.streams import Codec, StreamDevice, tune
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

if TYPE_CHECKING:
    from vswitch.foreign.kinds import ForeignSettings

_RETRY = 0.2  # seconds until the next try, when the process has no descriptor left
# Of a client that gets no port the connection stays open, and nothing is read from it: programs
# wait before they dial again when they were not let in, but not when a connection ends.
HELD = 64  # such connections, of one listener
HOLD = 10.0  # seconds
HOLD_AT_LEAST = 1.0  # seconds, with more of them; nobody is accepted meanwhile
_BATCH = 16  # connections of one wake-up
_PATIENCE = 10.0  # seconds of a client for one address


class StreamClients:
    """The clients of one listening socket."""

    def __init__(
        self,
        switch: Switch,
        sock: socket.socket,
        settings: ForeignSettings,
        *,
        codec: Callable[[int, Counter[str]], Codec] = FramedStream,
    ) -> None:
        self._limit = ClientLimit(switch, settings)
        self.refused = self._limit.refused
        self._codec = codec
        self._switch = switch
        self._settings = settings
        self._sock = sock
        self._count = 0
        self._held: deque[tuple[float, socket.socket]] = deque()  # since when
        self._nursery: trio.Nursery  # while it runs

    async def run(self) -> None:
        """Accept until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._let_go)
                while True:
                    await trio.lowlevel.wait_readable(self._sock)
                    await self._make_room()
                    try:
                        for _ in range(min(_BATCH, HELD - len(self._held))):
                            self._receive(*self._sock.accept())
                    except (BlockingIOError, ConnectionError):
                        pass
                    except OSError:
                        self._limit.refuse("no_descriptor")
                        self._end_held(len(self._held))
                        await trio.sleep(_RETRY)
        finally:
            self._end_held(len(self._held))
            self._limit.close()

    async def _make_room(self) -> None:
        """For one that might have to be held."""
        if len(self._held) >= HELD:
            await trio.sleep_until(self._held[0][0] + HOLD_AT_LEAST)
            if len(self._held) >= HELD:
                self._end_held(1)

    async def _let_go(self) -> None:
        """End what has been held for its time."""
        while True:
            now = trio.current_time()
            self._end_held(sum(since + HOLD <= now for since, _ in self._held))
            # Who comes later is held for longer.
            await trio.sleep_until((self._held[0][0] if self._held else now) + HOLD)

    def _end_held(self, count: int) -> None:
        for _ in range(count):
            self._held.popleft()[1].close()

    def _receive(self, sock: socket.socket, address: Address) -> None:
        try:
            self._take(sock, address)
        except Exception as error:  # a fault in a program costs this client its connection
            sock.close()
            note_fault(self.refused, error, name=self._settings.name)

    def _take(self, sock: socket.socket, address: Address) -> None:
        holder = holder_of(address)
        if not self._limit.may_come(holder):
            self._held.append((trio.current_time(), sock))
            return
        sock.setblocking(False)
        try:
            tune(sock)
        except OSError:  # it is gone again
            sock.close()
            return
        self._count += 1
        # A client of a UNIX socket has no address of its own.
        where = shown(address) if isinstance(address, tuple) else f"unix:{self._count}"
        dropped: Counter[str] = Counter()
        mtu = self._settings.mtu_in(self._switch.mtu)
        name = f"{self._settings.kind}:{where}"
        device = StreamDevice(sock, name, self._codec(mtu, dropped), mtu, dropped)
        port = self._limit.plug(device, f"{self._settings.name}-{where}", _gone, holder)
        if port is not None:
            device.on_blocked = port.flush_soon
            device.on_first = partial(self._limit.note_station, port, holder, self._nursery)


def _gone(_: Port) -> None:
    """The device of the port has closed the connection already."""


@asynccontextmanager
async def connect_tcp(where: HostPort, bind: str | None, mtu: int) -> AsyncIterator[StreamDevice]:
    """A client's side: a connection to somebody's listener, to its first address that answers."""
    sock = await _connect(where, bind)
    dropped: Counter[str] = Counter()
    device = StreamDevice(sock, f"tcp:{where}", FramedStream(mtu, dropped), mtu, dropped)
    try:
        yield device
    finally:
        device.close()


async def _connect(where: HostPort, bind: str | None) -> socket.socket:
    failure: OSError | None = None
    for address in await find(where, socket.SOCK_STREAM, bind):
        try:
            return await _connect_to(address, bind)
        except OSError as error:
            failure = error
    assert failure is not None
    raise failure


async def _connect_to(address: tuple[str, int], bind: str | None) -> socket.socket:
    with ExitStack() as undo, trio.move_on_after(_PATIENCE):
        sock = undo.enter_context(client_socket(address, socket.SOCK_STREAM, bind))
        await trio.socket.from_stdlib_socket(sock).connect(address)
        tune(sock)
        undo.pop_all()
        return sock
    raise TimeoutError(errno.ETIMEDOUT, "no answer")
