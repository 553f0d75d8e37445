"""The small protocol that everything behind a port implements, and the way its methods wait.

A device moves batches of records (frames with their record header) in and out without blocking, and
lets one task wait for each direction. The rules below hold for every device; the suite
`vswitch.testing.check_device` checks them.

 1. Order is kept in each direction; no record is altered, doubled, or lost without being counted.
 2. `read_nowait` gives frame and superframe records only; the rest is the device's business.
 3. The `_nowait` methods never block and never call back into the switch. `write_nowait` may be
    called at any time, by any task.
 4. The waiting methods are always checkpoints, and being cancelled in one loses nothing. They may
    return early: whoever calls `_nowait` next has to expect `trio.WouldBlock`, or 0.
 5. After `close`: `trio.ClosedResourceError` from everything, also in a task that already waits.
 6. When the other side is gone: `trio.BrokenResourceError`, on reading only after what had arrived.
 7. A second task that waits in the same direction gets `trio.BusyResourceError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import attrs
import trio

from vswitch.switch.codel import Patience


@runtime_checkable
class Device(Protocol):
    """What a port of the switch holds: a TAP interface, a session, an in-process port."""

    @property
    def name(self) -> str:
        """For logs and status."""

    @property
    def mtu(self) -> int:
        """Bytes of Ethernet payload that the other side takes."""

    @property
    def superframes(self) -> bool:
        """Whether records of flag 0xBCBD may be written, and may come."""

    async def wait_readable(self) -> None:
        """Return when `read_nowait` probably gives something, or raises."""

    def read_nowait(self, limit: int) -> list[bytes]:
        """1 to `limit` records, in order; `trio.WouldBlock` when there is none."""

    async def wait_writable(self) -> None:
        """Return when `write_nowait` probably takes something, or raises."""

    def write_nowait(self, records: list[bytes]) -> int:
        """How many records were taken, from the front; 0 when full, then use `wait_writable`.

        An empty batch is allowed, and lets a device send what it holds itself. A record that the
        device can never write counts as taken, and in a counter of the device.
        """

    def close(self) -> None:
        """Let go of everything at once. Idempotent."""

    async def aclose(self) -> None:
        """`close`, and a checkpoint; closes also when cancelled. Idempotent."""


@runtime_checkable
class Pushing(Protocol):
    """A device that saves the wake-up of whoever reads it."""

    async def push(self, take: Callable[[], bool]) -> None:
        """Call `take()` whenever `read_nowait` probably gives something, wherever that shows, until
        it gives False. Raises as `wait_readable` does, and what `take` raises.
        """


@runtime_checkable
class Overtaking(Protocol):
    """A device with a way past what waits for it."""

    def overtake_nowait(
        self, records: list[bytes], waits: Callable[[int], bool]
    ) -> tuple[list[bytes], list[bytes]]:
        """Write those that may pass what waits already, and give them, and the rest; both in
        order. `waits` tells whether anything of a bucket (`vswitch.frames.flows.bucket_of`) waits:
        order within a flow is kept. Raises as `write_nowait` does.
        """


@runtime_checkable
class Distant(Protocol):
    """A device at the other end of a path.

    Methods, since all Pythons find those on the class; for a property, 3.11 asks the device for its
    value, and takes an AttributeError of it for "no".
    """

    def round_trip(self) -> float | None:
        """Seconds that the path takes there and back, about; None while that is not known."""

    def lossy(self) -> bool:
        """Whether the path loses things, as far as is known."""


@attrs.frozen
class Description:
    """What a device says about itself in the status of its port."""

    via: str  # how it is attached, such as `local:vsw0`
    dropped: Mapping[str, int] = attrs.Factory(dict)  # frames that the device gave up, by reason


@runtime_checkable
class Describing(Protocol):
    """A device that has more to say about itself than its name."""

    def describe(self) -> Description:
        """As it is now."""


def description_of(device: Device) -> Description:
    """What the device says, or that it is a local one of its name."""
    if isinstance(device, Describing):
        return device.describe()
    return Description(f"local:{device.name}")


def patience_with(device: Distant | None, *, slow: bool = False) -> Patience:
    """How long records may wait for the device; None is one without a path. For a `slow` one, to
    which they leave at a rate of ours, there is a limit also where no path is known. HOT PATH.
    """
    if device is None or (trip := device.round_trip()) is None:
        return Patience(0.0 if slow else None)
    return Patience(trip, lossy=device.lossy())


async def read_each(device: Device, take: Callable[[], bool]) -> None:
    """Call `take()`, which reads, whenever something waits; until it gives False. HOT PATH.

    What the device or `take` raises passes through.
    """
    if isinstance(device, Pushing):
        await device.push(take)
        return
    while True:
        await device.wait_readable()
        if not take():
            return


class Waiter:
    """One direction of a device: lets one task wait until something holds."""

    __slots__ = ("_busy", "_lot")

    def __init__(self) -> None:
        self._busy = False
        self._lot = trio.lowlevel.ParkingLot()

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Return when `ready()`, looked at now and at each `wake`; what it raises passes through.

        A checkpoint in any case. `trio.BusyResourceError` while another task waits here.
        """
        if self._busy:
            raise trio.BusyResourceError("another task is already waiting in this direction")
        self._busy = True
        try:
            if ready():
                await trio.lowlevel.checkpoint()
            else:
                await self._lot.park()
                while not ready():
                    await self._lot.park()
        finally:
            self._busy = False

    def wake(self) -> None:
        """Have the waiting task, if any, look again. Cheap when nobody waits."""
        if self._busy:
            self._lot.unpark_all()
