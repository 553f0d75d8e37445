"""The pure parts of `python -m benchmarks.paths`: which cells, what is asked, how it is shown."""

import json
import math
import re
from pathlib import Path

import pytest

from benchmarks.paths import report, verdict
from benchmarks.paths.cells import (
    LEAST_QUEUE,
    PathCell,
    Plan,
    full_cells,
    open_path,
    quick_cells,
)
from benchmarks.paths.fairness import jain
from benchmarks.paths.flow import BYTES, INNER, Health, Trips, percentile

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PARTS_SHOWN = ("matrix", "peers", "fairness")


def trips(p95=60.0, *, lost=0, p50=50.0, p99=None, sent=100):
    return {"sent": sent, "lost": lost, "p50": p50, "p95": p95, "p99": p99 or p95}


def figures(**changed):
    found = {
        "mbit": 18.0,
        "goodput_percent": 90.0,
        "wire_per_payload": 1.1,
        "ping_alone": trips(),
        "ping_beside": trips(),
        "inner_tcp": {"rtt": 320.4},
        "status": {"join": [{"rtt_ms": 57.6}], "ports": []},
    }
    return found | changed


def missed(cell, **changed):
    return [check.what for check in verdict.of_matrix(cell, figures(**changed)) if not check.met]


def row(cell, problem=None, **changed):
    found = figures(**changed)
    checks = [check.row() for check in verdict.of_matrix(cell, found)]
    values = {name: getattr(cell, name) for name in ("rate", "rtt", "queue", "loss", "burst")}
    measured = {} if problem else {"figures": found, "checks": checks}
    return {"name": cell.name, "problem": problem, "checks": [], **values, **measured}


# Cells


def test_the_full_matrix_has_every_combination_once_and_the_bursts():
    names = [cell.name for cell in full_cells()]
    assert len(names) == len(set(names)) == 3 * 3 * 3 * 4 + 9
    assert {"5x10-q0.25-l0", "100x200-q4-l5", "20x50-q1-l0.1", "100x10-q1-b5"} <= set(names)


def test_the_quick_ones_are_among_the_full_ones():
    quick = quick_cells()
    assert set(quick) <= set(full_cells())
    assert len(quick) == 16
    assert sum(cell.burst for cell in quick) == 1


def test_a_cell_is_the_same_path_both_ways():
    cell = PathCell(20, 50, 1.0, 5.0)
    spec = cell.spec()
    assert (spec.rate, spec.delay, spec.queue, spec.loss) == (20e6, 0.025, 125_000, 0.05)
    assert spec.burst_loss == 0
    assert cell.wire().forward == cell.wire().back == cell.spec(lossless=True)
    assert cell.wire().forward.loss == 0


def test_bursts_replace_the_independent_loss():
    spec = PathCell(20, 50, 1.0, 5.0, burst=True).spec()
    assert (spec.loss, spec.burst_loss, spec.burst_length) == (0, 0.05, 10)
    assert PathCell(20, 50, 1.0, 5.0, burst=True).spec(lossless=True).burst_loss == 0


def test_no_queue_is_too_short_for_a_packet():
    assert PathCell(5, 10, 0.25).bdp * 0.25 < LEAST_QUEUE
    assert PathCell(5, 10, 0.25).spec().queue == LEAST_QUEUE


def test_a_path_without_a_bottleneck():
    spec = open_path(50, 1)
    assert (spec.rate, spec.delay, spec.loss) == (None, 0.025, 0.01)


def test_a_third_of_a_stream_counts_for_nothing():
    assert Plan(9, 0).warm_up == 3


# Reading what tools say


def test_percentiles_are_values_that_were_measured():
    times = [float(each) for each in range(1, 101)]
    assert [percentile(times, each) for each in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 1) == percentile([7.0], 99) == 7


def test_trips_without_an_answer_have_no_percentiles():
    assert Trips(3, []).figures() == {"sent": 3, "lost": 3}
    assert Trips(4, [1.0, 2.0, 3.0]).figures() == {
        "sent": 4,
        "lost": 1,
        "p50": 2.0,
        "p95": 3.0,
        "p99": 3.0,
    }


def test_what_ss_says():
    line = (
        "\t cubic wscale:10,10 rto:296 rtt:92.761/0.096 mss:1448 cwnd:157 ssthresh:123"
        " bytes_sent:4588749 bytes_retrans:15928 bytes_acked:43 bytes_received:77"
        " delivery_rate 19308960bps busy:1960ms rwnd_limited:24ms(0.3%) minrtt:40.237"
    )
    assert BYTES.findall(line) == ["77"]
    assert dict(INNER.findall(line)) == {
        "rtt": "92.761",
        "cwnd": "157",
        "ssthresh": "123",
        "bytes_retrans": "15928",
        "delivery_rate": "19308960",
        "busy": "1960",
        "rwnd_limited": "24",
        "minrtt": "40.237",
    }


@pytest.mark.parametrize(
    ("late", "missed", "void"), [(0, 0, False), (10, 0, False), (11, 0, True), (0, 1, True)]
)
def test_a_wire_that_did_not_keep_up_makes_figures_void(late, missed, void):
    before = Health(500, 7, 3)
    problem = (Health(1500, 7 + late, 3 + missed) - before).problem
    assert (problem is not None) == void
    assert problem is None or problem.startswith("void: ")


# Targets


@pytest.mark.parametrize(
    ("loss", "goodput", "met"),
    [(0, 85, True), (0, 84.9, False), (1, 84.9, False), (5, 70, True), (5, 69.9, False)],
)
def test_goodput(loss, goodput, met):
    assert ("goodput %" not in missed(PathCell(20, 50, 1, loss), goodput_percent=goodput)) == met


def test_bursts_are_asked_for_half_the_rate_alone():
    cell = PathCell(20, 50, 1, 5, burst=True)
    bad = {"wire_per_payload": 9.0, "ping_beside": trips(9999.0)}
    assert missed(cell, goodput_percent=50.0, **bad) == []
    assert missed(cell, goodput_percent=49.0, **bad) == ["goodput %"]


@pytest.mark.parametrize(
    ("queue", "loss", "limit"),
    [
        (1, 0, 80),
        (4, 0.1, 80),
        (0.25, 0, None),
        (0.25, 0.1, None),
        (0.25, 1, 280),
        (1, 1, 280),
        (4, 5, 280),
    ],
)
def test_pings_beside_a_stream(queue, loss, limit):
    cell = PathCell(5, 200, queue, loss)
    found = [check for check in verdict.of_matrix(cell, figures()) if check.what == "ping p95 ms"]
    assert [check.high for check in found] == ([] if limit is None else [limit])


def test_pings_that_nobody_answered_count_as_endless():
    cell = PathCell(20, 50, 1, 0)
    assert missed(cell, ping_beside=trips(60.0, lost=5)) == []
    assert missed(cell, ping_beside=trips(60.0, lost=6)) == ["ping p95 ms"]
    assert missed(cell, ping_beside={"sent": 100, "lost": 100}) == ["ping p95 ms"]
    assert missed(cell, ping_alone={"sent": 100, "lost": 100}) == ["ping p95 ms"]


@pytest.mark.parametrize(("loss", "limit"), [(0, 1.15), (0.1, None), (1, None), (5, 1.3)])
def test_bytes_on_the_wire(loss, limit):
    found = verdict.of_matrix(PathCell(20, 50, 1, loss), figures())
    assert [check.high for check in found if check.what == "wire"] == ([limit] if limit else [])


def test_beside_others_without_loss_only_the_rate_counts():
    (check,) = verdict.of_peers(50, 0, figures(mbit=90.0), [{"mbit": 100.0}, {"mbit": 20.0}])
    assert (check.found, check.met) == (0.9, True)


def test_beside_others_on_a_lossy_path():
    ours = figures(mbit=120.0, ping_alone=trips(110.0), ping_beside=trips(111.0, lost=1))
    checks = verdict.of_peers(50, 1, ours, [{"mbit": 3.0}, {"mbit": 2.5}])
    assert [(check.what, check.met) for check in checks] == [
        ("× best peer", True),
        ("pings lost", True),
        ("pings p99 ms", True),
        ("pings beside it lost", False),
        ("pings beside it p99 ms", False),
    ]


def test_others_that_carried_nothing_are_no_measure():
    (check,) = verdict.of_peers(50, 0, figures(), [])
    assert not check.met


def test_fair_shares():
    assert jain([1.0, 1.0]) == 1
    assert jain([1.0, 0.0]) == 0.5
    assert jain([0.0, 0.0]) == 0
    for kind in ("two of ours", "third of ours"):
        (equal,) = verdict.of_fairness({"kind": kind, "jain": 0.89})
        assert not equal.met
    for share, met in ((24.0, False), (25.0, True), (75.0, True), (76.0, False)):
        (check,) = verdict.of_fairness({"kind": "CUBIC late", "share_percent": share})
        assert check.met == met


def test_a_check_is_json_also_when_nothing_was_found():
    check = verdict.Check("ping p95 ms", math.inf, high=80.0)
    expected = {"what": "ping p95 ms", "found": None, "met": False, "low": None, "high": 80.0}
    assert json.loads(json.dumps(check.row(), allow_nan=False)) == expected


# Tables


def test_a_row_says_what_is_short():
    good, bad = PathCell(20, 50, 1, 0), PathCell(100, 200, 0.25, 5)
    text = report.matrix_table(
        [row(good), row(bad, goodput_percent=12.3, ping_beside=trips(95.0, lost=2))]
    )
    _, first, second, *_ = text.splitlines()
    assert " ".join(first.split()) == "20 50 1 0 90.0 % 50 / 60 50 / 60 58 / 320 1.10 ok"
    assert "(2 lost)" in second
    assert second.endswith("SHORT: goodput % ≥ 70")


def test_void_cells_are_shown_and_not_counted():
    cells = [row(PathCell(20, 50)), row(PathCell(5, 50), "void: the wire did not see 3 frames")]
    assert report.matrix_line(cells[1]).endswith("void: the wire did not see 3 frames")
    assert report.matrix_summary(cells).splitlines() == [
        "1 of 2 cells count",
        "goodput %: met in 1 of 1",
        "ping p95 ms: met in 1 of 1",
        "wire: met in 1 of 1",
    ]


def test_the_summary_names_the_cells_that_miss_a_target():
    cells = [row(PathCell(20, 50)), row(PathCell(5, 50), goodput_percent=1.0)]
    assert "goodput %: met in 1 of 2; not in 5x50-q1-l0" in report.matrix_summary(cells)


def peer(name, loss, mbit, problem=None, **changed):
    cell = {"peer": name, "loss": loss, "rtt": 50, "problem": problem}
    return cell if problem else cell | {"figures": figures(mbit=mbit, **changed)}


def test_rounds_become_medians_and_lost_pings_add_up():
    cells = [
        peer("tinc", 1.0, rate, ping_alone=trips(lost=lost))
        for rate, lost in ((1.0, 2), (9.0, 0), (3.0, 1))
    ]
    (entry,) = report.peers_summary([*cells, peer("tinc", 1.0, 0, "it died")])
    assert (entry["rounds"], entry["problems"]) == (3, ["it died"])
    assert entry["figures"]["mbit"] == 3.0
    assert (entry["figures"]["ping_alone"]["sent"], entry["figures"]["ping_alone"]["lost"]) == (
        300,
        3,
    )


def test_the_table_of_peers_has_ours_against_the_best():
    cells = [
        peer("vswitch", 0.0, 90.0),
        peer("tinc", 0.0, 100.0),
        peer("vswitch", 1.0, 120.0, ping_beside=trips(400.0)),
        peer("tinc", 1.0, 2.0),
        peer("n2n", 1.0, 0, "no lan0 in a\nlong story"),
    ]
    summary = report.peers_summary(cells)
    checks = report.peers_checks(summary)
    assert [check.found for check in checks[0.0]] == [0.9]
    assert checks[1.0][0].found == 60
    text = report.peers_table(summary)
    assert "n2n              no lan0 in a\n" in text
    assert "SHORT pings beside it p99 ms 400, asked ≤ 110" in text


def test_ours_alone_is_held_against_nobody():
    assert report.peers_checks(report.peers_summary([peer("vswitch", 1.0, 3.0)])) == {}


def test_a_line_of_fairness():
    found = {"kind": "CUBIC late", "mbit": [1.0, 17.0], "jain": 0.56, "link_percent": 90.0}
    found["share_percent"] = 5.0
    checks = [check.row() for check in verdict.of_fairness(found)]
    cell = {"kind": "CUBIC late", "path": "20x50-q1-l0", "problem": None}
    line = report.fairness_line(cell | {"figures": found, "checks": checks})
    assert "1.0 + 17.0 Mbit/s = 90 % of the link" in line
    assert line.endswith("SHORT: our share % ≥ 25 ≤ 75")


def test_a_line_of_three():
    found = {"kind": "third of ours", "mbit": [6.0, 6.5, 5.5], "jain": 0.99, "link_percent": 90.0}
    checks = [check.row() for check in verdict.of_fairness(found)]
    cell = {"kind": found["kind"], "path": "20x50-q1-l0", "problem": None}
    line = report.fairness_line(cell | {"figures": found, "checks": checks})
    assert "6.0 + 6.5 + 5.5 Mbit/s = 90 % of the link, Jain 0.99" in line
    assert line.endswith("ok")


def committed(part):
    return json.loads((RESULTS / f"2026-11-22-paths-{part}.json").read_text())


@pytest.mark.parametrize("part", PARTS_SHOWN)
def test_the_document_shows_the_committed_result(part):
    result = committed(part)
    assert report.told(result) in (ROOT / "docs" / "performance.md").read_text()
    assert result[part]
    assert not any(cell["problem"] for cell in result[part])


def test_what_the_readme_says_of_one_per_cent_follows_from_the_result():
    rows = [row for row in committed("peers")["peers"] if row["loss"] == 1.0]
    rates = {row["peer"]: row["figures"]["mbit"] for row in rows}
    ours = rates.pop("vswitch")
    readme = (ROOT / "README.md").read_text()
    (times,) = re.findall(r"had (\d+) times\s+what\s+the\s+best of", readme)
    assert int(times) == round(ours / max(rates.values()) - 0.5)
    assert len(rates) == 4
