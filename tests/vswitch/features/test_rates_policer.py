"""Rates of a port: what passes in a time, and what a superframe counts."""

import pytest

from vswitch.features.rates import MIN_BURST_BYTES, RateDrop, rate_stage
from vswitch.features.settings import Settings
from vswitch.frames.load import wire_bytes
from vswitch.frames.records import frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.switch.counters import PortCounters
from vswitch.testing import ethernet
from vswitch.testing.superframes import Flow, superframe

FRAME = frame_record(ethernet(b"\x02" * 6, b"\x02\0\0\0\0\x01", 0x0800, bytes(1486)))


def test_superframes_count_as_the_frames_that_they_are_cut_into():
    for flow in (Flow(), Flow(version=6), Flow(protocol=17), Flow(tags=(7,))):
        for size in (100, 1400, 5000, 60_000):
            record = superframe(flow, bytes(size), 1400)
            cut = cut_untrusted(record, 1500)
            assert wire_bytes(record) == sum(len(frame) - 4 for frame in cut)
    for end in range(4, 80):
        assert wire_bytes(record[:end]) <= end


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_policer_passes_its_bits_a_second_and_no_more_than_a_burst_besides(batch):
    stage, counters, passed = rate_stage(RateDrop.RATE_IN, 8e6, None), PortCounters(), 0
    for step in range(2000):
        passed += len(stage.take([FRAME] * batch, step / 1000, counters))
    sent = passed * 1500
    limit = 2e6 + MIN_BURST_BYTES
    assert sent <= limit + 1500
    assert sent >= min(limit - 64 * 1500, 2000 * batch * 1500 * 0.9)
    assert counters.drops.get("rate_in", 0) == 2000 * batch - passed


def test_a_policer_passes_its_frames_a_second_and_the_smaller_of_both_limits():
    stage, counters, passed = rate_stage(RateDrop.RATE_OUT, None, 1000), PortCounters(), 0
    for step in range(2000):
        passed += len(stage.take([FRAME] * 5, step / 1000, counters))
    assert 2000 <= passed <= 2130
    assert stage.explain(FRAME, 1.999).reason == RateDrop.RATE_OUT
    assert stage.explain(FRAME, 3.0).record is FRAME
    both = rate_stage(RateDrop.RATE_OUT, 8e6, 100)
    assert len(both.take([FRAME] * 1000, 0.0, counters)) == 87  # 128 KiB
    assert rate_stage(RateDrop.RATE_IN, None, None) is None


def test_rates_are_settings_of_a_port():
    said = Settings().with_port("pc1", {"rate_in": "50M", "frames_out": "10k"})
    assert said.of_port("pc1").rate_in == 50e6
    assert said.with_port("pc1", {"rate_in": "off"}).of_port("pc1").rate_in is None
