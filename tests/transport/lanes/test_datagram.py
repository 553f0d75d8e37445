"""The datagram lane's core: queues, reports, and what is made of them."""

from collections import Counter
from math import inf

import pytest

from transport.constants import DATAGRAM_INBOX_BYTES, DATAGRAM_OUTBOX_BYTES
from transport.lanes.datagram import (
    BLACK_HOLE,
    CLEAN_AGAIN_BYTES,
    CLEAN_BYTES,
    LOSS_TRIP,
    REPORT_INTERVAL,
    STALL,
    DatagramLane,
    LossMeter,
)

LIMIT = 60_000


class Reports:
    """A sender's meter, told of units sealed and lost."""

    def __init__(self):
        self.meter = LossMeter(0.0)
        self.now = 0.0
        self.sealed = self.received = 0

    def report(self, units, lost=0, sent=0, unanswered=0):
        self.now += REPORT_INTERVAL
        self.sealed += units
        self.received += units - lost
        return self.meter.reported_untrusted(
            self.received,
            self.sealed,
            sealed=self.sealed,
            unanswered=unanswered,
            sent=sent,
            now=self.now,
        )


@pytest.fixture
def reports():
    told = Reports()
    told.report(10, 4)  # before the lane was opened, as far as anybody knows
    return told


def test_what_was_missing_before_is_nobodys_loss(reports):
    reports.report(10)
    reports.report(10)
    assert reports.meter.lost == 0
    assert reports.meter.lost_at == -inf


def test_a_gap_is_a_loss_when_the_next_report_still_has_it(reports):
    reports.report(100, 1)
    assert reports.meter.lost == 0
    reports.report(100)
    assert reports.meter.lost == 1


def test_what_comes_late_is_not_lost(reports):
    for _ in range(50):
        reports.report(100, 5)
        reports.report(100, -5)
    assert reports.meter.lost == 0


def test_probes_without_an_answer_are_not_lost(reports):
    reports.report(100, 3, unanswered=3)
    reports.report(100, 0, unanswered=3)
    assert reports.meter.lost == 0


def test_large_units_after_a_clean_start_and_much_later_after_a_loss(reports):
    assert not reports.meter.large_units
    reports.report(10, sent=CLEAN_BYTES - 1)
    assert not reports.meter.large_units
    reports.report(10, sent=1)
    assert reports.meter.large_units
    reports.report(10, 1)
    reports.report(10)
    assert not reports.meter.large_units
    reports.report(10, sent=CLEAN_AGAIN_BYTES - 1)
    assert not reports.meter.large_units
    reports.report(10, sent=1)
    assert reports.meter.large_units


def test_a_path_that_loses_is_known_at_once(reports):
    reports.report(1000, int(LOSS_TRIP) + 1)
    reports.report(1000)
    assert reports.meter.lost_at == reports.now


def test_a_trace_is_no_loss(reports):
    for _ in range(100):
        reports.report(20_000, 1)
    assert reports.meter.lost == 99
    assert reports.meter.lost_at == -inf


def test_one_in_a_thousand_is_a_loss(reports):
    for _ in range(20):
        reports.report(1000, 1)
    assert reports.meter.lost_at > 0


def test_single_losses_of_a_quiet_session_are_forgotten(reports):
    for _ in range(20):
        reports.report(10, 1)
        reports.now += 120
    assert reports.meter.lost_at == -inf


@pytest.mark.parametrize(
    ("received", "expected"),
    [(5, 4), (0, 2**64 - 1), (6, 10), (5, 21), (5, 9), (6, 8)],
)
def test_reports_that_make_no_sense_change_nothing(reports, received, expected):
    before = {name: getattr(reports.meter, name) for name in LossMeter.__slots__}
    assert not reports.meter.reported_untrusted(
        received, expected, sealed=20, unanswered=0, sent=10**9, now=5.0
    )
    assert before == {name: getattr(reports.meter, name) for name in LossMeter.__slots__}


# --- The lane ------------------------------------------------------------------------------------


@pytest.fixture
def lane():
    made = DatagramLane(LIMIT, Counter(), 0.0)
    made.slice_size = 1400
    return made


def test_messages_are_as_large_as_a_datagram_first(lane):
    assert lane.message_size == 1400 - 16
    lane.meter.large_units = True
    assert lane.message_size == LIMIT


def test_a_message_that_no_unit_holds(lane):
    with pytest.raises(ValueError, match="at most 60000"):
        lane.send([bytes(LIMIT + 1)], 1.0)
    lane.send([bytes(LIMIT)], 1.0)


def test_credit_ends_and_returns_when_all_has_left(lane):
    while lane.credit > 0:
        lane.send([bytes(LIMIT)], 1.0)
    assert lane.held < DATAGRAM_OUTBOX_BYTES + LIMIT
    units = lane.take_units(1.0, suspect=False)
    assert lane.sent == len(units)
    assert lane.credit == DATAGRAM_OUTBOX_BYTES
    assert not lane.flush_due


def test_a_silent_peer_is_sent_nothing(lane):
    lane.send([b"a", b"b"], 1.0)
    assert lane.take_units(1.0, suspect=True) == []
    assert lane._drops == {"loose_silent": 2}
    assert lane.sent == 0


def test_the_inbox_is_bounded_and_what_is_more_is_counted(lane):
    for _ in range(200):
        lane.receive_untrusted(bytes(LIMIT), 43, 0.0)
    assert lane.held < DATAGRAM_INBOX_BYTES + LIMIT + 100
    got = lane.take_messages()
    assert lane._drops == {"loose_full": 43 * (200 - len(got))}
    assert lane.held == 0


def test_empty_messages_are_not_free(lane):
    for _ in range(100_000):
        lane.receive_untrusted(b"", 1, 0.0)
    assert len(lane.take_messages()) < 100_000


def test_a_report_is_due_a_moment_after_something_came_and_never_else(lane):
    assert lane.deadline() == inf
    for number in range(10):
        lane.receive_untrusted(b"x", 1, 1.0 + number / 100)
    assert lane.deadline() == 1.0 + REPORT_INTERVAL
    assert not lane.report_due(1.2)
    assert lane.report_due(1.25)
    assert not lane.report_due(9.0)
    assert lane.deadline() == inf


def report(lane, received, expected, now):
    lane.reported_untrusted(received, expected, sealed=10**6, unanswered=0, now=now)


def test_no_report_for_long_makes_a_path_suspect_once(lane):
    lane.send([b"x"], 1.0)
    lane.take_units(1.0, suspect=False)
    assert not lane.black_hole_suspected(1.0 + STALL - 0.01, None)
    assert not lane.black_hole_suspected(1.0 + STALL, 0.1)
    assert lane.black_hole_suspected(1.0 + STALL, 0.0)
    assert not lane.black_hole_suspected(9.0, None)


def test_a_report_says_that_the_path_is_there(lane):
    lane.send([b"x"], 1.0)
    lane.take_units(1.0, suspect=False)
    report(lane, 1, 1, 1.5)
    assert not lane.black_hole_suspected(9.0, None)


def test_a_large_share_lost_makes_a_path_suspect(lane):
    report(lane, 10, 10, 1.0)
    lost = int(100 * BLACK_HOLE) + 1
    report(lane, 110 - lost, 110, 1.25)
    report(lane, 210 - lost - lost, 210, 1.5)
    assert lane.black_hole_suspected(1.5, None)
    assert not lane.black_hole_suspected(1.5, None)


def test_the_end_leaves_what_has_come(lane):
    lane.receive_untrusted(b"last", 1, 0.0)
    lane.send([b"never leaves"], 1.0)
    lane.close()
    assert not lane.flush_due
    assert lane.deadline() == inf
    assert lane.take_messages() == [b"last"]
