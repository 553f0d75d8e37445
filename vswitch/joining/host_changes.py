"""Changes of this host that a session has to hear of: its machine has slept, its network changed.

Sleep: while a machine is suspended its monotonic clock stands still, and so do all our timers; a
session that is hours old looks as if it had just been used, though the switch has let go of it. So
the clock that counts sleep is compared with the one that does not, once a second.

Network: the kernel gives notice of each change of links, addresses and routes, which on many hosts
come all the time: containers, routing daemons, router advertisements. What exactly changed is not
read. Asked is how the kernel reaches the switch now; only if that is another way than before is
there something to do, which is to send something, from which the peer sees where we are now.

Error contract: nothing is raised. A system without such a clock, or without notices, gives none;
one that cannot be asked for its routes has them changed with every notice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from transport.platform import boot_time
from vswitch.devices.host_interface import Way
from vswitch.errors import VswitchError

NOTICEABLE: Final = 5.0  # seconds: less is survived by the session's own timers
INTERVAL: Final = 1.0  # seconds between two looks; a waking machine has to be back in two


class SleepDetector:
    """Pure; both clocks in seconds."""

    def __init__(self, boottime: float, monotonic: float) -> None:
        self._gap = boottime - monotonic

    def slept(self, boottime: float, monotonic: float) -> float:
        """Seconds slept since this last said so; 0 for what is too short to matter."""
        gap = boottime - monotonic
        slept = gap - self._gap
        if 0 <= slept < NOTICEABLE:
            return 0.0  # kept: many short ones make a long one
        self._gap = gap
        return max(0.0, slept)


def read_clocks() -> tuple[float, float]:
    """Boot time and monotonic time; the same where the system does not count sleep."""
    return boot_time(), time.monotonic()


async def watch_sleep(
    woke: Callable[[float], None],
    clocks: Callable[[], tuple[float, float]] = read_clocks,
) -> None:
    """Call `woke(seconds)` after each sleep; for ever."""
    detector = SleepDetector(*clocks())
    while True:
        await trio.sleep(INTERVAL)
        slept = detector.slept(*clocks())
        if slept:
            woke(slept)


Look: TypeAlias = Callable[[list[str]], Awaitable[dict[str, Way | None]]]


class WayWatch:
    """Whether the ways to the addresses of the switch are what they were. Pure but for `look`."""

    def __init__(self, look: Look) -> None:
        """`look` finds the ways to addresses; `VswitchError` where that is impossible."""
        self._look = look
        self._ways: dict[str, Way | None] = {}

    async def changed(self, hosts: list[str]) -> frozenset[str]:
        """Look, and remember: those of the addresses that are reached another way than before, or
        for the first time.
        """
        try:
            ways = await self._look(hosts)
        except VswitchError:  # nothing can be told: as if all had changed
            self._ways = {}
            return frozenset(hosts)
        before, self._ways = self._ways, ways
        return frozenset(host for host, way in ways.items() if before.get(host, ...) != way)

    def none_to(self, host: str) -> bool:
        """Whether there was no way there when last looked at."""
        return self._ways.get(host, ...) is None

    def through(self, dev: str) -> list[str]:
        """Addresses that were reached through this interface when last looked at."""
        return [host for host, way in self._ways.items() if way is not None and way.dev == dev]
