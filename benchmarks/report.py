"""Medians over the rounds, and the table of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["medians", "merged", "not_measured", "table"]

Cell = dict[str, Any]


def medians(cells: Iterable[Cell]) -> list[Cell]:
    """One entry for each underlay and peer, in the order in which they came.

    Every number is the median of the valid rounds; `rounds` says how many there were, and
    `problems` what went wrong in the others.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["underlay"], cell["peer"]), []).append(cell)
    result = []
    for (underlay, peer), group in groups.items():
        valid = [cell["figures"] for cell in group if cell["problem"] is None]
        result.append(
            {
                "underlay": underlay,
                "peer": peer,
                "rounds": len(valid),
                "problems": [cell["problem"] for cell in group if cell["problem"]],
                "longest_frame": max((cell.get("longest_frame", 0) for cell in group), default=0),
                "figures": merged(valid) if valid else None,
            }
        )
    return result


def merged(values: list[Any]) -> Any:
    """The median of each number in the same figures, measured several times."""
    if isinstance(values[0], dict):
        keys = [key for key in values[0] if all(key in value for value in values)]
        return {key: merged([value[key] for value in values]) for key in keys if key != "tried"}
    return statistics.median(values)


def _cpu(flows: dict[str, Any], key: str) -> float:
    """CPU seconds a GB of one stream, both ways together."""
    ways = [flows["1_up"], flows["1_down"]]
    seconds: float = sum(way[key] * way["gigabytes"] for way in ways)
    gigabytes: float = sum(way["gigabytes"] for way in ways)
    return seconds / gigabytes


def _times(ping: dict[str, float], *keys: str) -> str:
    return " / ".join(_number(ping.get(key)) for key in keys)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _clean(value: float, digits: int) -> str:
    """A rate without loss; 0 means that no rate that was tried had little enough of it."""
    return f"{value:.{digits}f}" if value else "none"


def _thousands(value: float) -> str:
    return f"{value / 1000:.1f}"


COLUMNS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("TCP 1 ↑/↓", lambda f: _pair(f, "1")),
    ("TCP 4 ↑/↓", lambda f: _pair(f, "4")),
    ("UDP 1400", lambda f: _clean(f["udp_1400"]["mbit"], 0)),
    ("64B clean", lambda f: _clean(f["udp_64"]["clean_per_s"] / 1000, 1)),
    ("64B overload", lambda f: "/".join(map(_thousands, f["udp_64"]["received_at"].values()))),
    ("ping 2ms", lambda f: _times(f["ping"]["ms2"], "min", "p50", "p99")),
    ("ping 50ms", lambda f: _times(f["ping"]["ms50"], "min", "p50", "p99")),
    ("ping 1s", lambda f: _times(f["ping"].get("ms1000", {}), "min", "p50", "p99")),
    ("ping loaded", lambda f: _times(f["ping"]["loaded"], "min", "p50", "p99")),
    ("CPU machine", lambda f: _number(_cpu(f["tcp"], "machine_s_per_gb"))),
    ("CPU peer", lambda f: _number(_cpu(f["tcp"], "peer_s_per_gb"))),
    ("RSS A/S/B", lambda f: "/".join(f"{f['resident_mib'][role]:.0f}" for role in "asb")),
)
LEGEND = """\
TCP, UDP 1400: Mbit/s (A to B ↑, B to A ↓; UDP at < 1 % loss). 64B: thousands of datagrams with
64 bytes received a second, at < 1 % loss, and with {overloads} offered. ping: ms min / p50 / p99,
2 ms, 50 ms and 1 s apart, and beside one TCP stream. CPU: seconds a GB with one stream, both ways,
of the whole machine and of the peer's processes. RSS: MiB in each host. Medians of the rounds."""


def _pair(figures: Any, streams: str) -> str:
    flows = figures["tcp"]
    return f"{flows[f'{streams}_up']['mbit']:.0f} / {flows[f'{streams}_down']['mbit']:.0f}"


def table(summary: list[Cell], abouts: dict[str, str], overloads: Iterable[int]) -> str:
    """The summary for people: a block for each underlay."""
    blocks = []
    for underlay in dict.fromkeys(entry["underlay"] for entry in summary):
        rows = [[underlay, *(name for name, _ in COLUMNS)]]
        notes = []
        for entry in summary:
            if entry["underlay"] != underlay:
                continue
            if entry["figures"] is None:
                rows.append([entry["peer"], "no valid round"])
            else:
                rows.append([entry["peer"], *(show(entry["figures"]) for _, show in COLUMNS)])
            notes += [f"  {entry['peer']}: {text.splitlines()[0]}" for text in entry["problems"]]
        if any(entry["longest_frame"] for entry in summary if entry["underlay"] == underlay):
            longest = max(e["longest_frame"] for e in summary if e["underlay"] == underlay)
            notes.append(f"  longest frame that S's wire carried: {longest} bytes")
        blocks.append("\n".join([*_align(rows), *notes]))
    known = (f"  {name:16} {text}" for name, text in abouts.items())
    offered = "/".join(f"{rate / 1000:.0f} k" for rate in overloads)
    return "\n\n".join([*blocks, LEGEND.format(overloads=offered), "\n".join(known)])


def not_measured(remedies: dict[str, str]) -> str:
    """The peers that were asked for and are not in the table, by name, with what to do about it."""
    lines = [f"  {name:16} {remedy}\n" for name, remedy in remedies.items()]
    return "".join(["\nnot measured:\n", *lines]) if lines else ""


def _align(rows: list[list[str]]) -> list[str]:
    widths = [
        max(len(row[column]) for row in rows if len(row) == len(rows[0]))
        for column in range(len(rows[0]))
    ]
    widths[0] = max(len(row[0]) for row in rows)
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]
