"""Log level `trace`: a line for each frame that comes in, and what the switch does with it.

It is a capture of all ports whose reader is the log, so it costs nothing at any other level, looks
at no more frames a second than a capture may, never holds up a frame, and says what it missed.
"""

from __future__ import annotations

import logging

import trio

from vswitch.features.capture import DIRECTIONS, SNAP_LENGTH, Capture, Captures, RunningCapture
from vswitch.frames.filter import parse_filter_untrusted
from vswitch.frames.headers import summary
from vswitch.logs import TRACE, event

PAUSE = 0.1  # seconds from a frame to its line

log = logging.getLogger(__name__)


async def log_frames(captures: Captures) -> None:
    """Until cancelled, or a fault ends all captures; nothing where nobody reads that level."""
    if not log.isEnabledFor(TRACE):
        return
    kept = Capture(parse_filter_untrusted(""), snap_length=SNAP_LENGTH)
    running = RunningCapture(kept, None, DIRECTIONS["in"])
    captures.add(running)
    missed = 0
    try:
        while running in captures.running:
            await running.changed.wait()
            running.changed = trio.Event()
            await trio.sleep(PAUSE)
            for item in kept.take():
                frame, what = summary(item.data), item.comment
                event(log, "frame", TRACE, port=item.port, frame=frame, decision=what)
            all_missed = sum(tally.missed for tally in kept.tallies.values())
            if all_missed > missed:
                event(log, "frames-missed", TRACE, count=all_missed - missed)
                missed = all_missed
    finally:
        captures.remove(running)
