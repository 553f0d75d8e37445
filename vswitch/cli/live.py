"""Screens that go on: `vswitch status --watch` and `vswitch top`. The only user of rich.

On a terminal the screen is the whole of it, until `q`; into a file or pipe one after the other.
Nothing that a peer has said is taken for markup.
"""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vswitch.errors import ExitCode, NotReachable
from vswitch.logs import clean
from vswitch.management.client import request
from vswitch.management.status import PortStatus, SwitchStatus, from_json
from vswitch.management.tables import USUAL_DROPS, size, switch_line

PAUSE = 1.0  # seconds
_BAR = 10  # characters
_FULL = "█"


def watch(show: Callable[[], RenderableType]) -> int:
    """Show it each second, until `q` or Ctrl-C, or until nobody reads."""
    console = Console()
    with suppress(KeyboardInterrupt):
        if not console.is_terminal:
            while True:
                console.print(show())
                console.file.flush()
                time.sleep(PAUSE)
        with (
            _keys() as ends,
            Live(show(), console=console, screen=True, auto_refresh=False) as live,
        ):
            while not ends(PAUSE):
                live.update(show(), refresh=True)
    return ExitCode.OK


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """What waits so many seconds, and whether `q` was pressed or the terminal is gone meanwhile.
    The terminal gives keys at once, and unseen; where it is another job's, it is left alone.
    """

    def wait(seconds: float) -> bool:
        time.sleep(seconds)
        return False

    def listen(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0]:
                pressed = os.read(fd, 64)
                if not pressed or b"q" in pressed.lower():
                    return True
        return False

    fd = 0
    if not os.isatty(fd) or os.tcgetpgrp(fd) != os.getpgrp():
        yield wait
        return
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield listen
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def watch_text(text: Callable[[], str]) -> int:
    """As `watch`, of what a command prints once; a switch that is away is said, and waited for."""

    def show() -> RenderableType:
        try:
            told = text()
        except NotReachable as error:
            told = str(error)
        return Text(told, no_wrap=True, overflow="ellipsis")

    return watch(show)


@attrs.frozen
class Sample:
    """The counters of a port at one moment."""

    rx_bytes: int
    tx_bytes: int
    drops: dict[str, int]

    @classmethod
    def of(cls, port: PortStatus) -> Sample:
        """What it has counted so far; drops that are no fault are not among them."""
        drops = {why: count for why, count in port.drops.items() if why not in USUAL_DROPS}
        return cls(port.rx_bytes, port.tx_bytes, drops)


@attrs.frozen
class Rate:
    """What a port does, a second: bits from it and to it, frames dropped and most of them why."""

    port: PortStatus
    rx: float
    tx: float
    dropped: float
    reason: str

    @classmethod
    def since(cls, port: PortStatus, before: Sample | None, seconds: float) -> Rate:
        """Since then; nothing for a port that is new, or has begun to count anew."""
        now = Sample.of(port)
        if before is None or now.rx_bytes < before.rx_bytes or now.tx_bytes < before.tx_bytes:
            before = now
        grown = {why: count - before.drops.get(why, 0) for why, count in now.drops.items()}
        worst = max(grown, key=grown.__getitem__, default="")
        return cls(
            port,
            (now.rx_bytes - before.rx_bytes) * 8 / seconds,
            (now.tx_bytes - before.tx_bytes) * 8 / seconds,
            sum(grown.values()) / seconds,
            worst if grown.get(worst) else "",
        )


def rates_table(rates: list[Rate], room: int) -> Table:
    """The busiest first, as many as there is `room` for."""
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    table.add_column("PORT", no_wrap=True, ratio=2, min_width=8)
    table.add_column("", width=_BAR, no_wrap=True, style="cyan")
    for name in ("FROM IT", "TO IT", "RTT", "QUEUED", "DROPS/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("WHY", no_wrap=True, ratio=2, style="yellow")
    ordered = sorted(rates, key=lambda each: (-(each.rx + each.tx), each.port.port))
    most = max((each.rx + each.tx for each in ordered), default=0)
    for each in ordered[:room]:
        port = each.port
        table.add_row(
            Text(clean(port.name), style="" if port.state == "up" else "red"),
            _FULL * round(_BAR * (each.rx + each.tx) / most) if most else "",
            f"{size(each.rx)}bit/s",
            f"{size(each.tx)}bit/s",
            "-" if port.rtt_ms is None else f"{port.rtt_ms:.1f}ms",
            str(port.queued_frames) if port.queued_frames else "-",
            f"{each.dropped:.0f}" if each.dropped else "-",
            each.reason,
        )
    return table


def watch_ports(path: Path) -> int:
    """Until stopped: the ports of the switch at this control socket."""
    before: dict[int, Sample] = {}
    then = 0.0

    def show() -> RenderableType:
        nonlocal before, then
        try:
            status = from_json(request(path, "status"), SwitchStatus)
        except NotReachable as error:
            before = {}
            return Text(str(error), style="red")
        now = time.monotonic()
        seconds = max(now - then, 0.001)
        rates = [Rate.since(port, before.get(port.port), seconds) for port in status.ports]
        before, then = {port.port: Sample.of(port) for port in status.ports}, now
        total = f"{size(sum(each.rx for each in rates))}bit/s from {len(rates)} ports"
        head = Text(f"{switch_line(status)}\n", no_wrap=True, overflow="ellipsis")
        return Group(head.append(f"{total}; q ends", style="dim"), rates_table(rates, _room()))

    def _room() -> int:
        return max(Console().size.height - 4, 1)

    return watch(show)
