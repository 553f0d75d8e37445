"""The pure parts of `python -m benchmarks.versions`, and that it measures what it says."""

import subprocess
import sys

import pytest

from benchmarks.versions import report
from benchmarks.versions.code import code_of, known
from benchmarks.versions.measure import LOSSY_CELLS, turned
from benchmarks.versions.report import Ratio, lines, table

VARIANTS = ("new", "old", "control")


def figures(value):
    """An underlay's, all of them this number."""
    ping = {"p50": value, "p99": value, "peer_us": value}
    flow = {"mbit": value, "gigabytes": 1.0, "machine_s_per_gb": value, "peer_s_per_gb": value}
    return {
        "ping": {"ms2": ping, "ms50": ping, "loaded": ping},
        "tcp": {"1_up": flow, "1_down": flow},
        "udp_1400": {"mbit": value},
        "udp_64": {"clean_per_s": value, "received_at": {"80k": 0.0, "300k": value}},
    }


def row(variant, start, value, *, part="nic", problem=None, **more):
    entry = {"part": part, "variant": variant, "start": start, "problem": problem}
    return entry | {"figures": figures(value), "load_before": 0.5} | more


def result(rows):
    known = {"commit": "0" * 40, "changed_files": 0, "python": "3.11.7", "variables": {}}
    facts = {"machine": {"cpu": "c", "cores": 2, "kernel": "6"}, "when": "today"}
    return {"facts": facts, "code": {"new": known, "old": known}, "rows": rows}


def of(rows, what):
    (line,) = [line for line in lines(rows) if line.what == what]
    return line


def test_medians_of_starts_and_ratios_within_a_start():
    values = {"new": (1.0, 4.0, 3.0), "old": (2.0, 5.0, 10.0), "control": (2.0, 10.0, 5.0)}
    rows = [
        row(name, start, value)
        for name, each in values.items()
        for start, value in enumerate(each, start=1)
    ]
    found = lines(rows)
    assert len(found) == len(report.FIGURES)
    for line in found:
        assert (line.new, line.old, line.starts) == (3.0, 5.0, 3)
        assert line.ratio == Ratio(0.6, 0.3, 0.8)
        assert line.control == Ratio(1.0, 0.5, 2.0)


def test_a_start_in_which_one_failed_is_in_no_ratio_of_it():
    rows = [row(name, start, 10.0 * start) for name in VARIANTS for start in (1, 2)]
    rows += [row("old", 3, 1.0), row("control", 3, 1.0), row("new", 3, 99.0, problem="it died\nso")]
    line = of(rows, "one TCP stream up, Mbit/s")
    assert (line.new, line.starts) == (15.0, 2)
    assert line.ratio == Ratio(1.0, 1.0, 1.0)
    assert "out: nic, start 3, new: it died" in table(result(rows)).splitlines()


def test_what_was_not_found_is_no_figure():
    rows = [row(name, 1, 5.0) for name in VARIANTS]
    rows[0]["figures"]["udp_1400"]["mbit"] = 0.0  # no rate was clean
    rows[1]["figures"]["ping"]["loaded"] = {"lost": 1.0}
    rows[2]["figures"] = {}
    assert of(rows, "UDP 1,400 bytes clean, Mbit/s").ratio is None
    assert of(rows, "ping beside TCP, p50 ms").old is None
    assert of(rows, "ping 2 ms apart, p50 ms").control is None
    assert of(rows, "ping 2 ms apart, p50 ms").ratio == Ratio(1.0, 1.0, 1.0)
    assert "–" in table(result(rows))


def test_cpu_is_of_both_ways_by_what_they_carried():
    found = row("new", 1, 1.0)
    found["figures"]["tcp"]["1_down"] = {"gigabytes": 3.0, "machine_s_per_gb": 5.0} | {
        "mbit": 1.0,
        "peer_s_per_gb": 2.0,
    }
    rows = [found, row("old", 1, 1.0)]
    assert of(rows, "CPU of the machine, s/GB").new == 4.0
    assert of(rows, "CPU of the processes, s/GB").new == 1.75


def test_the_last_overload_counts():
    assert of([row("new", 1, 7.0)], "UDP 64 bytes overload, /s").new == 7.0


def test_each_lossy_path_has_lines_and_a_void_one_is_named():
    path = {"mbit": 4.0, "ping_alone": {"p50": 50.0, "p99": 60.0}, "ping_beside": {"lost": 9}}
    rows = [
        row("new", 1, 0.0, part="lossy", void={"openx200-l5": "void: late\nmore"})
        | {"figures": {"openx50-l1": path}},
        row("old", 1, 0.0, part="lossy") | {"figures": {"openx50-l1": path, "openx200-l5": path}},
    ]
    assert of(rows, "openx50-l1 TCP, Mbit/s").ratio == Ratio(1.0, 1.0, 1.0)
    assert of(rows, "openx50-l1 ping beside it, p50 ms").ratio is None
    lost = of(rows, "openx200-l5 TCP, Mbit/s")
    assert (lost.new, lost.old, lost.ratio) == (None, 4.0, None)
    assert "out: lossy, start 1, new, openx200-l5: void: late" in table(result(rows))


def test_parts_keep_apart_and_in_order():
    rows = [row(name, 1, 1.0, part=part) for part in ("veth", "strict") for name in VARIANTS]
    found = [line.part for line in lines(rows)]
    assert found == ["veth"] * len(report.FIGURES) + ["strict"] * len(report.FIGURES)
    assert table(result(rows)).count("new / old  ") == 2


def test_each_start_begins_with_another():
    orders = [turned(VARIANTS, number) for number in (1, 2, 3, 4)]
    assert [order[0] for order in orders] == ["new", "old", "control", "new"]
    assert all(sorted(order) == sorted(VARIANTS) for order in orders)


def test_the_lossy_paths_are_those_that_are_asked_for():
    assert {(cell.rtt, cell.loss, cell.rate) for cell in LOSSY_CELLS} == {
        (rtt, loss, None) for rtt in (50, 200) for loss in (1, 5)
    }


# Which vswitch runs


def checkout(path):
    """One whose packages can be imported, and do nothing."""
    for package in ("vswitch", "transport"):
        (path / package).mkdir()
        (path / package / "__init__.py").write_text("")
    return path


def test_a_checkout_runs_its_own_packages_whatever_the_directory(tmp_path, monkeypatch):
    code = code_of(checkout(tmp_path), sys.executable + " -O", ["A=b=c"])
    assert code.python == (sys.executable, "-O")
    assert known(code)["variables"] == {"A": "b=c"}
    monkeypatch.chdir(tmp_path.parent)
    said = subprocess.run(
        [*code.python, "-c", "import os, vswitch; print(vswitch.__file__, os.environ['A'])"],
        env=code.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [str(tmp_path / "vswitch" / "__init__.py"), "b=c"]


def test_its_own_interpreter_comes_first(tmp_path):
    assert code_of(tmp_path).python == (sys.executable,)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    assert code_of(tmp_path).python == (str(python),)


def test_packages_from_elsewhere_end_it(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    checkout(there)
    with pytest.raises(SystemExit, match="cannot be imported"):
        known(code_of(here, f"{sys.executable} -S"))
    with pytest.raises(SystemExit, match="takes"):
        known(code_of(here, sys.executable, [f"PYTHONPATH={there}"]))
