"""A congestion controller of one's own: a class with the members of `Controller`, and a row."""

from collections.abc import Sequence
from math import inf

import pytest

from transport import TransportConfig
from transport.congestion.choice import CONTROLLERS
from transport.congestion.controller import Controller, SentSegment
from transport.testing.cores import client_and_server

DELAY = 0.050  # seconds, one way


class FixedWindow:
    """Never more in flight than this, whatever happens."""

    window = 20_000
    pacing_rate = inf
    loss = 0.0
    app_limited = False

    def __init__(self, now: float) -> None:
        self.rtt: float | None = None
        self.delivered = self.lost = self.max_in_flight = 0
        made.append(self)

    def on_acknowledged(self, acked: Sequence[SentSegment], in_flight: int, now: float) -> None:
        self.delivered += sum(segment.size for segment in acked)
        self.max_in_flight = max(self.max_in_flight, in_flight)
        self.rtt = next((segment.rtt for segment in acked if segment.rtt is not None), self.rtt)

    def on_lost(self, lost: Sequence[SentSegment], now: float) -> None:
        self.lost += len(lost)


made: list[FixedWindow] = []


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> TransportConfig:
    made.clear()
    monkeypatch.setitem(CONTROLLERS, "fixed", FixedWindow)
    return TransportConfig(congestion="fixed")


def test_a_controller_with_a_row_in_the_table_governs_the_lanes_of_both_ends(fixed):
    wire, client, server = client_and_server(delay=DELAY, config=fixed)
    messages = [bytes([number]) * 1000 for number in range(200)]
    client.send(*messages)
    wire.advance(0.5)
    soon = server.read()
    assert 0 < len(soon) <= 6 * FixedWindow.window / 1000  # a window each round trip
    wire.advance(2.0)
    assert soon + server.read() == messages
    assert client.session.bulk.rtt == pytest.approx(2 * DELAY, abs=0.01)
    assert len(made) == 2
    sender = max(made, key=lambda controller: controller.delivered)
    assert sender.delivered > 200_000
    assert sender.max_in_flight <= FixedWindow.window + 2000


def test_losses_are_told_to_the_controller_and_repaired(fixed):
    wire, client, server = client_and_server(delay=DELAY, config=fixed)
    wire.filter = lambda datagram: [] if wire.random.random() < 0.05 else [datagram]
    messages = [bytes([number]) * 1000 for number in range(100)]
    client.send(*messages)
    wire.advance(10.0)
    assert server.read() == messages
    assert sum(controller.lost for controller in made) > 0


def test_an_unknown_controller_is_refused():
    with pytest.raises(ValueError, match="there are: delay"):
        TransportConfig(congestion="unknown")


@pytest.mark.parametrize("name", ["delay"])  # a benchmark adds one that is of no use
def test_every_controller_begins_with_a_window_and_without_a_round_trip(name):
    controller: Controller = CONTROLLERS[name](5.0)
    controller.on_acknowledged([], 0, 5.0)
    assert controller.window > 0
    assert controller.pacing_rate == inf
    assert controller.rtt is None
    assert controller.loss == 0.0
    assert controller.app_limited
