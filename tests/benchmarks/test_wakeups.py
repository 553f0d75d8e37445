"""What is made of the summaries of strace."""

import pytest

from benchmarks.wakeups import counted, medians, table

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 97.10    0.009412          48       196           epoll_wait
  2.90    0.000281          23        12         3 epoll_pwait
------ ----------- ----------- --------- --------- ----------------
100.00    0.009693          46       208         3 total
"""


def test_calls_are_read_from_a_summary():
    assert counted(SUMMARY) == 208


def test_a_summary_without_any_is_no_figure():
    with pytest.raises(SystemExit, match="counted nothing"):
        counted("% time     seconds  usecs/call     calls    errors syscall\n")


def test_the_sum_is_that_of_a_round():
    rounds = [{"a": 1.0, "s": 5.0, "b": 3.0}, {"a": 2.0, "s": 3.0, "b": 2.0}]
    assert medians(rounds) == {"a": 1.5, "s": 4.0, "b": 2.5, "sum": 8.0}


def test_the_table_compares():
    one, other = (
        {"a": 1.0, "s": 2.0, "b": 1.0, "sum": 4.0},
        {"a": 2.0, "s": 4.0, "b": 2.0, "sum": 8.0},
    )
    lines = table([one, other]).splitlines()
    assert len(lines) == 4
    assert lines[-1].split() == ["all", "three", "4.00", "8.00", "ratio", "0.50"]
    assert "ratio" not in table([one])
