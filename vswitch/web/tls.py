"""TLS over a stream, with `ssl`: as many records at once as have come.

`trio.SSLStream` gives one record of 16 kB for each call, in a dozen steps with three checkpoints;
here a read takes what the kernel has, up to what was asked for, and all records in it.

Invariants: one task reads and one writes; what waits in here is one read of the transport, as large
as what was asked for. The end of the connection is the end of the stream, with or without a word of
TLS: what is inside says itself where it ends, as HTTP does.

Error contract: `trio.BrokenResourceError` for what is no TLS, a certificate that is not good, and a
connection that breaks.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import trio

RECORD: Final = 16 * 1024  # bytes, RFC 8446 section 5.1


class TlsStream(trio.abc.Stream):
    """One side of a connection; `do_handshake` comes first."""

    def __init__(
        self,
        transport: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self.transport = transport
        self._socket: trio.socket.SocketType | None = None  # to be written to at once
        if isinstance(transport, trio.SocketStream) and os.name == "posix":  # where it is a file
            self._socket = transport.socket
        self._unsent = b""  # of what TLS has said, by `send_nowait`
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self._sending = trio.StrictFIFOLock()

    async def do_handshake(self) -> None:
        """Raises as the class does, also when the connection ends meanwhile."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError as error:
                await self._flush()  # it says why
                raise trio.BrokenResourceError from error
            if not await self._more(RECORD):
                raise trio.BrokenResourceError("the connection has ended in the handshake")
        await self._flush()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """HOT PATH."""
        self._say(data)
        await self._flush()

    def send_nowait(self, data: bytes) -> bool:
        """Send what leaves at once. Whether that was all; else `send_all` has to follow, with what
        comes next or nothing. HOT PATH.
        """
        self._say(data)
        if self._socket is None or self._sending.locked():
            return False
        data = self._unsent + self._outgoing.read()
        try:
            # Trio's own way to send may wait, and is a checkpoint.
            left = os.write(self._socket.fileno(), data)
        except BlockingIOError:
            left = 0
        except OSError as error:
            raise trio.BrokenResourceError from error
        self._unsent = data[left:]
        return not self._unsent

    def _say(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, at most so many bytes or a record's; nothing at the end. HOT PATH."""
        most = max_bytes or RECORD
        records = self._records(most)
        if records or records is None:
            await trio.lowlevel.checkpoint()
        while records is not None and not records:
            records = self._records(most) if await self._more(most) else None
        return b"".join(records or ())

    async def aclose(self) -> None:
        await self.transport.aclose()

    def _records(self, most: int) -> list[bytes] | None:
        """What can be read now; None at an end that the other side has announced. HOT PATH."""
        read = self._tls.read
        records: list[bytes] = []
        try:
            while most > 0:
                record = read(min(most, RECORD))
                if not record:
                    return records or None
                records.append(record)
                most -= len(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not records:
                raise trio.BrokenResourceError from error
        return records

    async def _more(self, most: int) -> bool:
        """Wait for something to read; whether there was."""
        if self._outgoing.pending:  # an answer of TLS's own
            await self._flush()
        data = await self.transport.receive_some(max(most, RECORD))
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        """Send what TLS has to say, in its order."""
        try:
            self._sending.acquire_nowait()  # which, unlike `acquire`, is no checkpoint
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            data, self._unsent = self._unsent + self._outgoing.read(), b""
            await self.transport.send_all(data)
        finally:
            self._sending.release()
