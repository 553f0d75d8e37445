"""One version over the other, with how far the same code differs from itself. Pure.

Each ratio is that of the medians of starts; its spread is the least and the most of the ratios
within one start, which hold what two sets of processes differ by and little of what the machine did
meanwhile. A ratio inside the spread of the control says nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import attrs

__all__ = ["CONTROL", "NEW", "OLD", "Line", "Ratio", "lines", "table"]

NEW, OLD, CONTROL = "new", "old", "control"
Row = dict[str, Any]
Get = Callable[[Row], float]


@attrs.frozen
class Ratio:
    """Of two variants: the medians' and, start by start, the least and the most."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.least:.2f}–{self.most:.2f})"


@attrs.frozen
class Line:
    """One figure. None where no start has it."""

    part: str
    what: str
    better: str  # "less" or "more"
    new: float | None
    old: float | None
    ratio: Ratio | None  # new over old
    control: Ratio | None  # old over old
    starts: int  # in which both have it


def _cpu(key: str) -> Get:
    """CPU seconds a GB of one stream, both ways together."""

    def get(found: Row) -> float:
        ways = [found["tcp"]["1_up"], found["tcp"]["1_down"]]
        seconds: float = sum(way[key] * way["gigabytes"] for way in ways)
        return seconds / sum(way["gigabytes"] for way in ways)

    return get


def _ping(kind: str, key: str) -> Get:
    return lambda found: float(found["ping"][kind][key])


FIGURES: tuple[tuple[str, str, Get], ...] = (
    ("ping 2 ms apart, p50 ms", "less", _ping("ms2", "p50")),
    ("ping 2 ms apart, p99 ms", "less", _ping("ms2", "p99")),
    ("ping 2 ms apart, CPU µs", "less", _ping("ms2", "peer_us")),
    ("ping 50 ms apart, p50 ms", "less", _ping("ms50", "p50")),
    ("ping 50 ms apart, p99 ms", "less", _ping("ms50", "p99")),
    ("ping 50 ms apart, CPU µs", "less", _ping("ms50", "peer_us")),
    ("ping beside TCP, p50 ms", "less", _ping("loaded", "p50")),
    ("ping beside TCP, p99 ms", "less", _ping("loaded", "p99")),
    ("one TCP stream up, Mbit/s", "more", lambda found: found["tcp"]["1_up"]["mbit"]),
    ("one TCP stream down, Mbit/s", "more", lambda found: found["tcp"]["1_down"]["mbit"]),
    ("CPU of the machine, s/GB", "less", _cpu("machine_s_per_gb")),
    ("CPU of the processes, s/GB", "less", _cpu("peer_s_per_gb")),
    ("UDP 1,400 bytes clean, Mbit/s", "more", lambda found: found["udp_1400"]["mbit"]),
    ("UDP 64 bytes clean, /s", "more", lambda found: found["udp_64"]["clean_per_s"]),
    ("UDP 64 bytes overload, /s", "more", lambda found: _last(found["udp_64"]["received_at"])),
)
PATH_FIGURES: tuple[tuple[str, str, Get], ...] = (
    ("TCP, Mbit/s", "more", lambda found: found["mbit"]),
    ("ping alone, p50 ms", "less", lambda found: found["ping_alone"]["p50"]),
    ("ping alone, p99 ms", "less", lambda found: found["ping_alone"]["p99"]),
    ("ping beside it, p50 ms", "less", lambda found: found["ping_beside"]["p50"]),
    ("ping beside it, p99 ms", "less", lambda found: found["ping_beside"]["p99"]),
)


def _last(received: dict[str, float]) -> float:
    return list(received.values())[-1]


def _of_path(path: str, get: Get) -> Get:
    return lambda found: get(found[path])


def lines(rows: Iterable[Row]) -> list[Line]:
    """A line for each figure of each part, in their order. Rows with a problem are out."""
    done = list(rows)
    result = []
    for part in dict.fromkeys(row["part"] for row in done):
        valid = [row for row in done if row["part"] == part and not row["problem"]]
        for what, better, get in _figures(done, part):
            values = {name: _values(valid, name, get) for name in (NEW, OLD, CONTROL)}
            new, old, control = values[NEW], values[OLD], values[CONTROL]
            result.append(
                Line(
                    part,
                    what,
                    better,
                    _median(new),
                    _median(old),
                    _ratio(new, old),
                    _ratio(control, old),
                    len(new.keys() & old.keys()),
                )
            )
    return result


def _figures(rows: list[Row], part: str) -> list[tuple[str, str, Get]]:
    """Those of an underlay, or those of each path where a part has paths."""
    found = [row["figures"] for row in rows if row["part"] == part]
    paths = dict.fromkeys(
        name for figures in found for name, value in figures.items() if "ping_alone" in value
    )
    if not paths:
        return list(FIGURES)
    return [
        (f"{path} {what}", better, _of_path(path, get))
        for path in paths
        for what, better, get in PATH_FIGURES
    ]


def _values(rows: list[Row], variant: str, get: Get) -> dict[int, float]:
    """By start, where it was measured and is not zero: no ratio is of that."""
    found = {}
    for row in rows:
        if row["variant"] == variant:
            try:
                found[row["start"]] = get(row["figures"])
            except KeyError:  # nothing answered, or the path was void
                continue
    return {start: value for start, value in found.items() if value}


def _median(values: dict[int, float]) -> float | None:
    return statistics.median(values.values()) if values else None


def _ratio(over: dict[int, float], under: dict[int, float]) -> Ratio | None:
    both = over.keys() & under.keys()
    if not both:
        return None
    each = [over[start] / under[start] for start in both]
    # Medians of the same starts: one that only one of them had would shift the other.
    middle = statistics.median(over[start] for start in both) / statistics.median(
        under[start] for start in both
    )
    return Ratio(middle, min(each), max(each))


HEAD = ("", "new", "old", "new / old", "old / old", "starts")


def table(result: Row) -> str:
    """All of it: where from, under which load, a block for each part, and what is out."""
    machine, code = result["facts"]["machine"], result["code"]
    loads = [row["load_before"] for row in result["rows"]] or [0.0]
    blocks = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']};"
        f" {result['facts']['when']}; load before a start {min(loads):.1f} to {max(loads):.1f}",
        "\n".join(f"{name}: {_known(code[name])}" for name in (NEW, OLD)),
    ]
    told = lines(result["rows"])
    for part in dict.fromkeys(line.part for line in told):
        cells = [(part, *HEAD[1:]), *(_cells(line) for line in told if line.part == part)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        blocks.append("\n".join(_aligned(row, widths) for row in cells))
    outs = [line for row in result["rows"] for line in _out(row)]
    blocks += ["\n".join(outs)] if outs else []
    return "\n\n".join([*blocks, LEGEND])


LEGEND = """\
Medians of starts. new / old, old / old: ratio of the medians, in brackets the least and the most
of the ratios within one start; old / old is the control, two sets of the same processes. CPU µs:
of all three processes for one ping. clean: at < 1 % loss."""


def _known(code: Row) -> str:
    words = [f"commit {code['commit'][:12]}, changed files {code['changed_files']}"]
    words += [f"Python {code['python']}", *(f"{k}={v}" for k, v in code["variables"].items())]
    return ", ".join(words)


def _cells(line: Line) -> tuple[str, ...]:
    values = ("–" if each is None else _number(each) for each in (line.new, line.old))
    ratios = (str(each or "–") for each in (line.ratio, line.control))
    return (f"  {line.what}", *values, *ratios, str(line.starts))


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(cells: Iterable[str], widths: list[int]) -> str:
    first, *rest = cells
    return "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])])


def _out(row: Row) -> list[str]:
    where = f"out: {row['part']}, start {row['start']}, {row['variant']}"
    problems = {where: row["problem"]} if row["problem"] else {}
    problems |= {f"{where}, {path}": why for path, why in row.get("void", {}).items()}
    return [f"{place}: {why.splitlines()[0]}" for place, why in problems.items()]
