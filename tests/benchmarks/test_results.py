"""What the documents show of a comparison is what the committed result says."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.chart import chart, throughput
from benchmarks.report import medians
from benchmarks.resident import verdict

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "2026-11-29-compare.json"


@pytest.fixture
def result():
    return json.loads(RESULT.read_text())


def test_the_picture_is_made_from_the_result(result):
    assert (ROOT / "docs" / "images" / "tcp.svg").read_text() == chart(result)


def test_a_bar_for_each_encrypted_peer_as_long_as_its_figure(result):
    svg = ElementTree.fromstring(chart(result))
    bars = [float(each.get("width")) for each in svg.iter("{http://www.w3.org/2000/svg}rect")]
    values = [
        throughput(entry) for entry in result["summary"] if entry["peer"] not in ("vxlan", "bare")
    ]
    assert len(bars) == len(values) == 12
    for bar, value in zip(bars, values, strict=True):
        assert bar / max(bars) == pytest.approx(value / max(values), abs=0.01)


def test_the_factors_in_the_document_follow_from_the_result(result):
    text = (ROOT / "docs" / "performance.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| one TCP stream, mean of")]
    shown = [float(cell.strip(" ×")) for cell in row.split("|")[2:5]]
    factors = []
    for underlay in ("strict", "nic", "veth"):
        by_peer = {
            entry["peer"]: throughput(entry)
            for entry in result["summary"]
            if entry["underlay"] == underlay and entry["peer"] != "vxlan"
        }
        factors.append(by_peer.pop("vswitch") / max(by_peer.values()))
    assert shown == pytest.approx(factors, abs=0.06)


def test_no_wire_carried_a_train_where_none_may(result):
    for entry in result["summary"]:
        if entry["underlay"] in ("strict", "nic"):
            assert entry["longest_frame"] <= 1514
        assert entry["problems"] == []


def test_medians_leave_failed_rounds_out():
    def cell(value, problem=None):
        figures = None if problem else {"tcp": {"mbit": value, "tried": [1]}}
        return {"underlay": "nic", "peer": "x", "figures": figures, "problem": problem}

    (entry,) = medians([cell(1.0), cell(9.0), cell(2.0), cell(0, "the peer died")])
    assert entry["figures"] == {"tcp": {"mbit": 2.0}}
    assert (entry["rounds"], entry["problems"]) == (3, ["the peer died"])
    (entry,) = medians([cell(0, "the peer died")])
    assert entry["figures"] is None


def test_memory_under_load_is_flat_or_named():
    def sizes(*values):
        return [{"s": float(value)} for value in values]

    assert verdict(sizes(60, 64, 66, 65), most=80) == []
    assert verdict(sizes(60, 62, 70, 75), most=80) == ["it grows: 62 MiB, then 75"]
    assert verdict(sizes(81, 81), most=80) == ["81 MiB, asked ≤ 80"]
