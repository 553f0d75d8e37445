"""Handler of `vswitch capture`: pcapng or lines, for as long as its stream runs."""

from __future__ import annotations

import math
from functools import partial

import trio

from vswitch.errors import ConfigError, Problem
from vswitch.features import capture
from vswitch.frames.filter import parse_filter_untrusted
from vswitch.management.handlers.common import (
    Args,
    Controlled,
    Send,
    port_of,
    texts_of,
    whole_of,
)
from vswitch.management.stream import Stream
from vswitch.version import VERSION

# Seconds between two looks at a capture, unless it fills: each look costs as much as some fifty
# frames, and whoever watches does not notice it.
CAPTURE_PAUSE = 0.1


async def capture_frames(controlled: Controlled, args: Args) -> Stream:
    """`vswitch capture`: pcapng or lines, from when its stream runs on."""
    managed = controlled.managed
    names = texts_of(args, "ports")
    ports = [port_of(managed, name).name for name in names]
    if not names and args.get("all") is not True:
        raise ConfigError("name the ports to capture on, or all of them with --all")
    try:
        matches = parse_filter_untrusted(str(args.get("filter") or ""))
    except ValueError as error:
        raise ConfigError(f"--filter: {error}").of(Problem.FILTER, reason=error) from None
    directions = capture.DIRECTIONS.get(str(args.get("direction") or "both"))
    if directions is None:
        raise ConfigError(f"--direction: one of {', '.join(capture.DIRECTIONS)}")
    snap_length = whole_of(args, "snaplen", 14, capture.SNAP_LENGTH) or capture.SNAP_LENGTH
    seconds = args.get("seconds")
    if not isinstance(seconds, int | float | None) or isinstance(seconds, bool):
        raise ConfigError("--for: a duration")
    if seconds is not None and not 0 < seconds < math.inf:  # nor what is no number
        raise ConfigError("--for: more than no time, and not for ever")
    kept = capture.Capture(
        matches,
        snap_length=snap_length,
        count=whole_of(args, "count", 1, 1 << 62),
        drops_only=args.get("drops") is True,
    )
    running = capture.RunningCapture(
        kept, None if args.get("all") is True else frozenset(ports), directions
    )
    writer: capture.PcapngWriter | capture.TextWriter | capture.JsonWriter
    form = args.get("format") or "pcapng"
    if form == "text":
        writer = capture.TextWriter()
    elif form == "json":
        writer = capture.JsonWriter()
    elif form != "pcapng":
        raise ConfigError("format: one of pcapng, text, json")
    else:
        shown = ports or [port.name for port in managed.switch.ports]
        writer = capture.PcapngWriter(f"vswitch {VERSION}", shown, snap_length)
    return Stream(partial(_run_capture, controlled.captures, running, writer, seconds))


async def _run_capture(
    captures: capture.Captures,
    running: capture.RunningCapture,
    writer: capture.PcapngWriter | capture.TextWriter | capture.JsonWriter,
    seconds: float | None,
    send: Send,
    ended: trio.Event,
) -> None:
    captures.add(running)
    try:
        await send(writer.head())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wake_at, ended, running)
            until = trio.current_time() + (math.inf if seconds is None else seconds)
            # Only the waiting ends at a moment: what was taken goes out whole, or the file
            # would end inside a block.
            while not (running.kept.over or ended.is_set()):
                with trio.move_on_at(until) as waiting:
                    await running.changed.wait()
                    with trio.move_on_after(CAPTURE_PAUSE):
                        await running.due.wait()
                    running.changed, running.due = trio.Event(), trio.Event()
                if waiting.cancelled_caught or running not in captures.running:
                    break
                await send(writer.write(running.kept.take()))
            nursery.cancel_scope.cancel()
    finally:
        captures.remove(running)
    last = writer.write(running.kept.take())
    await send(last + writer.tail(running.kept.tallies, captures.wall(trio.current_time())))


async def _wake_at(ended: trio.Event, running: capture.RunningCapture) -> None:
    await ended.wait()
    running.changed.set()
    running.due.set()
