"""The tasks of one port, and how the end of a port is told to people.

 reading   wait_readable ─▶ read_nowait(64) ─▶ the switch
 writing   a backlog ─▶ wait_writable ─▶ flush

Whatever a device raises ends up in `take_down`, once per task, and nowhere else: `run_port` itself
raises nothing but cancellation. What happens next is for whoever attached the port to decide.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from vswitch.logs import event
from vswitch.switch.device import read_each
from vswitch.switch.faults import is_ordinary
from vswitch.switch.port import Port

log = logging.getLogger(__name__)

DetachListener = Callable[[Port], object]

READ_BATCH = 64  # records a port may read before the others have their turn: about 100 µs of work


async def run_port(
    port: Port,
    ingress: Callable[[Port, list[bytes]], None],
    flush: Callable[[Port], None],
    take_down: Callable[[Port, Exception], None],
) -> None:
    """Move frames in both directions until cancelled."""

    device = port.device

    def take() -> bool:
        try:
            records = device.read_nowait(READ_BATCH)
        except trio.WouldBlock:
            return True
        ingress(port, records)
        return True

    async def read() -> None:
        await read_each(device, take)

    async def write() -> None:
        while True:
            await port.flush_when_writable()
            flush(port)

    async def guard(job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Exception as error:
            take_down(port, error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guard, read)
        nursery.start_soon(guard, write)


def begin_port(port: Port) -> None:
    """One line of log for a port that was plugged in."""
    event(log, "port-up", port=port.number, name=port.name)


def end_port(port: Port, listener: DetachListener | None, reference: str | None) -> None:
    """Log why a port is down, in one line; close its device; tell the listener. Raises nothing.
    `reference` is that of a fault.
    """
    error = port.error
    if error is None:
        event(log, "port-down", port=port.number, name=port.name, reason="detached")
    else:
        event(
            log,
            "port-down",
            _level(error),
            None if is_ordinary(error) else error,
            port=port.number,
            name=port.name,
            reason=str(error),
            error=type(error).__name__,
            reference=reference,
        )
    try:
        port.device.close()
    except Exception:
        log.exception("device-close-failed port=%d", port.number)
    if listener is not None:
        try:
            listener(port)
        except Exception:
            log.exception("detach-listener-failed port=%d", port.number)


def _level(error: Exception) -> int:
    """A peer that goes is the course of things; a failing interface deserves a look."""
    if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
        return logging.INFO
    return logging.WARNING if is_ordinary(error) else logging.ERROR
