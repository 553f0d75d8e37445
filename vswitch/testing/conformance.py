"""`check_device`: the suite that every device has to pass.

In the manner of `trio.testing.check_one_way_stream`; the rules are those of
`vswitch/switch/device.py`, and a broken one is an `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from vswitch.testing import device_rules as rules
from vswitch.testing.devices import DevicePair

MakePair = Callable[[], AbstractAsyncContextManager[DevicePair]]


async def check_device(
    make_pair: MakePair, *, fills: bool = True, other_side_breaks: bool = True
) -> None:
    """Run every rule, each over a fresh pair from `make_pair`, an async context manager.

    `fills`: the device can be full, and the peer's `get` makes room. `other_side_breaks`: closing
    the peer breaks the device. A device for which one of them cannot be says so here.
    """
    every: list[Callable[[DevicePair], Awaitable[None]]] = [
        rules.describes_itself,
        rules.reads_in_order_and_within_the_limit,
        rules.writes_in_order,
        rules.superframes_pass_among_frames,
        rules.waiting_for_frames_can_be_cancelled,
        rules.one_reader,
        rules.closed_raises,
        rules.closing_wakes_the_reader,
        rules.aclose_closes_when_cancelled,
    ]
    if fills:
        every += [rules.full_and_writable_again, rules.closing_wakes_the_writer, rules.one_writer]
    if other_side_breaks:
        every += [rules.broken_after_what_had_arrived, rules.breaking_wakes_the_reader]
    for rule in every:
        async with make_pair() as pair:
            try:
                await rule(pair)
            finally:
                pair.device.close()
