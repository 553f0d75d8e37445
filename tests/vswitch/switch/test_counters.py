import attrs
import pytest

from vswitch.frames.records import frame_record
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.testing.superframes import Flow, superframe


def test_drops_are_counted_by_reason_and_together():
    counters = PortCounters()
    counters.drop(DropReason.RUNT, 2)
    counters.drop(DropReason.RUNT, 1)
    counters.drop(DropReason.QUEUE_FULL, 5)
    counters.drop(DropReason.OVERSIZE, 0)
    snapshot = counters.snapshot()
    assert snapshot.drops == {DropReason.RUNT: 3, DropReason.QUEUE_FULL: 5}
    assert snapshot.dropped == 8


def test_a_snapshot_is_frozen():
    counters = PortCounters(rx_frames=1)
    snapshot = counters.snapshot()
    counters.rx_frames = 2
    counters.drop(DropReason.RUNT, 1)
    assert (snapshot.rx_frames, snapshot.dropped) == (1, 0)
    with pytest.raises(TypeError):
        snapshot.drops[DropReason.RUNT] = 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        snapshot.rx_frames = 3


def test_totals_add_everything():
    one = PortCounters(1, 2, 3, 4, 5, {DropReason.RUNT: 6})
    one.add(PortCounters(10, 20, 30, 40, 50, {DropReason.RUNT: 60, DropReason.SAME_PORT: 7}))
    assert (
        one.snapshot()
        == PortCounters(
            11, 22, 33, 44, 55, {DropReason.RUNT: 66, DropReason.SAME_PORT: 7}
        ).snapshot()
    )


def test_refused_batches_came_in_and_were_dropped():
    counters = PortCounters()
    counters.refuse([frame_record(bytes(60))] * 2, DropReason.PORT_DETACHED)
    snapshot = counters.snapshot()
    assert (snapshot.rx_frames, snapshot.rx_bytes, snapshot.dropped) == (2, 120, 2)
    counters.refuse([superframe(Flow(), bytes(3000), 1000)], DropReason.PORT_DETACHED)
    assert counters.drops == {DropReason.PORT_DETACHED: 5}
    assert (counters.rx_frames, counters.rx_bytes) == (5, 120 + 14 + 52 + 3000)


def test_reasons_are_named_as_in_metrics():
    assert DropReason.QUEUE_FULL == "queue_full"
    assert all(reason == reason.lower() and reason.isidentifier() for reason in DropReason)
