"""The benchmark of starts, with stand-ins for the two checkouts' programs."""

from pathlib import Path

import pytest

from benchmarks.start import imported, measure, table

REPORT = """\
import time: self [us] | cumulative | imported package
import time:       120 |        120 |   trio._core
import time:        10 |        130 | vswitch
vswitch: error: nothing runs here
"""


def checkout(path: Path, *, status: int = 3, report: str = REPORT) -> Path:
    """One whose command ends as it does where nothing runs, and says that it loaded Trio."""
    programs = path / ".venv/bin"
    programs.mkdir(parents=True)
    ends = f"case $1 in --help) exit 0;; status) exit {status};; members) exit 5;; esac\n"
    (programs / "vswitch").write_text(f"#!/bin/sh\n{ends}")
    (programs / "python").write_text(f"#!/bin/sh\nshift 3\ncat >&2 <<'END'\n{report}END\n{ends}")
    for program in programs.iterdir():
        program.chmod(0o755)
    return path


def test_imports_are_read_from_the_interpreter_s_report() -> None:
    assert imported(REPORT) == {"trio", "vswitch"}


def test_each_command_is_measured_in_both_checkouts(tmp_path: Path) -> None:
    result = measure([checkout(tmp_path / "a"), checkout(tmp_path / "b")], starts=2)
    assert list(result) == ["--help", "status", "members"]
    for figures in result.values():
        assert [each["loads"] for each in figures] == [["trio"], ["trio"]]
        assert all(float(str(each["cpu_seconds"])) >= 0 for each in figures)


def test_a_start_that_fails_otherwise_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"vswitch status of .* ended with 1"):
        measure([checkout(tmp_path, status=1)], starts=1)


def test_a_start_without_a_report_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="did not report its imports"):
        measure([checkout(tmp_path, report="")], starts=1)


def test_table_sets_this_checkout_over_the_other() -> None:
    here: dict[str, object] = {"cpu_seconds": 0.15, "loads": []}
    there: dict[str, object] = {"cpu_seconds": 0.3, "loads": ["trio", "cryptography"]}
    assert table({"status": [here, there]}) == (
        "  status      150 ms     300 ms  ratio 0.50  loads none; trio cryptography"
    )
    assert table({"status": [there]}) == "  status      300 ms  loads trio cryptography"
