"""The log at level trace: a line for each frame, and nothing at all at any other level."""

import logging

import pytest
import trio
import trio.testing

from vswitch.features.capture import Captures
from vswitch.logs import TRACE
from vswitch.serving.frame_log import log_frames
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B = (bytes([2, 0, 0, 0, 0, number]) for number in (10, 11))


@pytest.fixture
def heard(autojump_clock, caplog):
    async def heard(level, frames):
        """What is logged of frames that come in at a port of two, and whether anybody looks."""
        caplog.clear()
        caplog.set_level(level, "vswitch.serving.frame_log")
        async with open_switch() as switch, trio.open_nursery() as nursery:
            captures = Captures(switch)
            device = FakeDevice()
            switch.attach(device, name="pc1")
            switch.attach(FakeDevice(), name="pc2")
            nursery.start_soon(log_frames, captures)
            await trio.testing.wait_all_tasks_blocked()
            looking = bool(captures.running)
            for frame in frames:
                device.feed(frame)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert not captures.running
        return looking, caplog.messages

    return heard


async def test_each_frame_that_comes_in_has_a_line_with_what_becomes_of_it(heard):
    looking, lines = await heard(TRACE, [ethernet(B, A, 0x88B5), ethernet(A, B, 0x0800)])
    assert looking
    assert len(lines) == 2
    assert lines[0].startswith(
        'frame port=pc1 frame="02:00:00:00:00:0a > 02:00:00:00:00:0b type 0x88b5'
    )
    assert 'decision="to pc2 (02:00:00:00:00:0b: not known, flooded)"' in lines[0]


async def test_at_any_other_level_nobody_looks(heard):
    assert await heard(logging.DEBUG, [ethernet(B, A, 0x88B5)]) == (False, [])


async def test_what_is_too_much_is_counted(heard, monkeypatch):
    monkeypatch.setattr("vswitch.features.capture.BURST", 3)
    monkeypatch.setattr("vswitch.features.capture.RATE", 0)
    _, lines = await heard(TRACE, [ethernet(B, A, 0x88B5)] * 9)
    assert [line.split()[0] for line in lines] == ["frame"] * 3 + ["frames-missed"]
    assert lines[-1] == "frames-missed count=6"
