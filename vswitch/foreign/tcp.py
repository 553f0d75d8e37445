"""Framed TCP, and QEMU's stream: a client is a connection, and its end is that of the port."""

from __future__ import annotations

import socket
from collections import Counter

import trio

from vswitch.foreign.client_limit import Admission
from vswitch.foreign.formats import FramedStream, QemuStream
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.sockets import shown
from vswitch.foreign.streams import Codec, StreamDevice, tune
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

_RETRY = 0.2  # seconds, when the process has no descriptor left
_BATCH = 16  # connections of one wake-up


class StreamClients:
    """The clients of one listening socket."""

    def __init__(self, switch: Switch, settings: ForeignSettings, sock: socket.socket) -> None:
        self.admission = Admission(switch, settings)
        self._switch = switch
        self._settings = settings
        self._sock = sock
        self._count = 0

    async def run(self) -> None:
        """Accept until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    for _ in range(_BATCH):
                        self._take(*self._sock.accept())
                except (BlockingIOError, ConnectionError):
                    pass
                except OSError:
                    await trio.sleep(_RETRY)
        finally:
            self.admission.close()

    def _take(self, sock: socket.socket, address: object) -> None:
        if not self.admission.may_come():
            sock.close()
            return
        sock.setblocking(False)
        try:
            tune(sock)
        except OSError:  # it is gone again
            sock.close()
            return
        self._count += 1
        # A client of a UNIX socket has no address of its own.
        where = shown(address[:2]) if isinstance(address, tuple) else f"unix:{self._count}"
        dropped: Counter[str] = Counter()
        device = StreamDevice(
            sock,
            f"{self._settings.kind}:{where}",
            self._codec(dropped),
            self._switch.mtu,
            dropped,
        )
        port = self.admission.plug(device, f"{self._settings.name}-{where}", _gone)
        if port is not None:
            device.on_blocked = port.flush_soon

    def _codec(self, dropped: Counter[str]) -> Codec:
        if self._settings.kind == "tcp":
            return FramedStream(self._switch.mtu, dropped)
        return QemuStream(self._switch.mtu, dropped)


def _gone(_: Port) -> None:
    """The device of the port has closed the connection already."""
