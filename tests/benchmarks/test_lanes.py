"""The pure parts of `python -m benchmarks.paths lanes`."""

from benchmarks.paths.lanes import LaneCell, lane_cells, lanes_line, lanes_table


def row(lane, **changed):
    found = {"mbit": 12.34, "ping_alone": {"sent": 9, "lost": 0, "p50": 1.0, "p99": 2.4}}
    found["ping_beside"] = {"sent": 9, "lost": 3, "p50": 10.0, "p99": 20.0}
    entry = {"lane": lane, "rtt": 50, "loss": 0.1, "rate": None, "problem": None}
    return entry | {"figures": found} | changed


def test_every_path_is_there_for_each_lane():
    cells = lane_cells()
    assert len(cells) == len(set(cells)) == 26
    assert [c for c in cells if c.lane == "kcp"] == lane_cells(["kcp"])
    assert sum(cell.rate is not None for cell in cells) == 2


def test_what_a_path_does():
    cell = LaneCell("kcp", 50, 5.0)
    assert cell.spec().loss == 0.05
    assert cell.spec(lossless=True).loss == 0.0
    assert cell.spec().delay == 0.025
    assert LaneCell("kcp", 50, rate=20).spec().rate == 20e6


def test_lines():
    assert lanes_line(row("kcp")) == (
        "  open     50    0.1  kcp         12.3  1 / 2               10 / 20 (3 lost)"
    )
    assert lanes_line(row("kcp", problem="void: late\nmore")).endswith("kcp      void: late")
    nobody = {"sent": 9, "lost": 9}
    found = {"mbit": 0.0, "ping_alone": nobody, "ping_beside": nobody}
    assert "none answered" in lanes_line(row("kcp", figures=found))


def test_the_lanes_of_a_path_are_neighbours():
    cells = [row("kcp"), row("kcp", rtt=10), row("datagram"), row("datagram", rtt=10)]
    lines = lanes_table(cells).splitlines()[1:5]
    assert [line.split()[1::2][0] for line in lines] == ["10", "10", "50", "50"]
    assert [line.split()[3] for line in lines] == ["kcp", "datagram"] * 2
