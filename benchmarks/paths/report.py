"""The result for people. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.paths import lanes, verdict

__all__ = [
    "PARTS",
    "fairness_line",
    "fairness_table",
    "matrix_line",
    "matrix_summary",
    "matrix_table",
    "peers_checks",
    "peers_line",
    "peers_summary",
    "peers_table",
    "told",
]

Row = dict[str, Any]
PARTS = ("matrix", "peers", "fairness", "lanes")
WIDTHS = (6, 6, 4, 6, 8, 18, 20, 13, 5, 0)
HEAD = (
    "Mbit/s",
    "RTT ms",
    "BDP",
    "loss %",
    "goodput",
    "ping alone",
    "beside a stream",
    "session, TCP",
    "wire",
    "",
)
LEGEND = """\
loss: each way; b: in runs of 10 packets. goodput: TCP payload in % of the rate. ping: p50 / p95 in
ms, and how many were lost. session, TCP: smoothed round trips in ms beside the stream, as A's
session and as the stream's own TCP see them: what a ping takes longer than the session's is spent
in queues of ours, or behind a lost segment. wire: bytes of IP that A put on its wire for a byte of
payload."""
PEER_LEGEND = """\
Mbit/s: payload of one TCP stream. ping: p50 / p99 in ms, and how many were lost, in all rounds.
Rates and times are medians of the rounds."""


def matrix_line(cell: Row) -> str:
    """One cell."""
    loss = f"{cell['loss']:g}" + " b" * cell["burst"]
    path = (f"{cell['rate']:g}", f"{cell['rtt']:g}", f"{cell['queue']:g}", loss)
    if cell["problem"]:
        return _line([*path, "", "", "", "", "", cell["problem"].splitlines()[0]])
    found = cell["figures"]
    return _line(
        [
            *path,
            f"{found['goodput_percent']:.1f} %",
            _trips(found["ping_alone"], 95),
            _trips(found["ping_beside"], 95),
            _inside(found),
            f"{found['wire_per_payload']:.2f}",
            _verdict(cell["checks"]),
        ]
    )


def matrix_table(cells: Iterable[Row]) -> str:
    """All of them."""
    return "\n".join([_line(HEAD), *map(matrix_line, cells), "", LEGEND])


def matrix_summary(cells: Iterable[Row]) -> str:
    """How many cells meet each target, and which do not."""
    done = list(cells)
    valid = [cell for cell in done if not cell["problem"]]
    lines = [f"{len(valid)} of {len(done)} cells count"]
    for what in dict.fromkeys(check["what"] for cell in valid for check in cell["checks"]):
        asked = [
            (cell["name"], check["met"])
            for cell in valid
            for check in cell["checks"]
            if check["what"] == what
        ]
        missed = [name for name, met in asked if not met]
        short = f"; not in {', '.join(missed)}" if missed else ""
        lines.append(f"{what}: met in {len(asked) - len(missed)} of {len(asked)}{short}")
    return "\n".join(lines)


def peers_summary(cells: Iterable[Row]) -> list[Row]:
    """One entry for each loss and peer: medians of the rounds that count."""
    groups: dict[tuple[float, str], list[Row]] = {}
    for cell in cells:
        groups.setdefault((cell["loss"], cell["peer"]), []).append(cell)
    result = []
    for (loss, peer), group in sorted(groups.items(), key=lambda entry: entry[0][0]):
        valid = [cell["figures"] for cell in group if not cell["problem"]]
        result.append(
            {
                "loss": loss,
                "rtt": group[0]["rtt"],
                "peer": peer,
                "rounds": len(valid),
                "problems": [cell["problem"] for cell in group if cell["problem"]],
                "figures": _merged(valid) if valid else None,
            }
        )
    return result


def peers_checks(summary: Iterable[Row], ours: str = "vswitch") -> dict[float, list[verdict.Check]]:
    """By loss: ours against the others. No entry where ours was not measured."""
    entries = [entry for entry in summary if entry["figures"]]
    result = {}
    for own in entries:
        if own["peer"] != ours:
            continue
        beside = [
            entry["figures"]
            for entry in entries
            if entry["loss"] == own["loss"] and entry["peer"] != ours
        ]
        if beside:
            checks = verdict.of_peers(own["rtt"], own["loss"], own["figures"], beside)
            result[own["loss"]] = checks
    return result


def peers_line(cell: Row) -> str:
    """One peer at one loss."""
    head = f"{cell['loss']:3g} %  {cell['peer']:17}"
    if not cell.get("figures") or cell.get("problem"):
        problems = cell.get("problems") or [cell.get("problem") or ""]
        return f"{head}{problems[0].splitlines()[0]}"
    found = cell["figures"]
    alone, beside = _trips(found["ping_alone"], 99), _trips(found["ping_beside"], 99)
    return f"{head}{found['mbit']:7.1f} Mbit/s  {alone:22}{beside}".rstrip()


def peers_table(summary: list[Row]) -> str:
    """All of them, with the verdicts below each loss."""
    checks = peers_checks(summary)
    lines = [f"{'loss':7}{'peer':17}{'one TCP stream':>14}  {'ping alone':22}beside the stream"]
    for loss in dict.fromkeys(entry["loss"] for entry in summary):
        lines += [peers_line(entry) for entry in summary if entry["loss"] == loss]
        lines += [
            f"       {'ok' if check.met else 'SHORT':6}{check}" for check in checks.get(loss, [])
        ]
    return "\n".join([*lines, "", PEER_LEGEND])


def fairness_line(cell: Row) -> str:
    """Streams that shared a bottleneck."""
    head = f"{cell['kind']:12} {cell['path']:15}"
    if cell["problem"]:
        return f"{head} {cell['problem'].splitlines()[0]}"
    found = cell["figures"]
    rates = " + ".join(f"{each:.1f}" for each in found["mbit"])
    return (
        f"{head} {rates} Mbit/s = {found['link_percent']:.0f} % of the link,"
        f" Jain {found['jain']:.2f}  {_verdict(cell['checks'])}"
    )


def fairness_table(cells: Iterable[Row]) -> str:
    """All of them; the first figure is always ours."""
    return "\n".join(map(fairness_line, cells))


def told(result: Row) -> str:
    """The whole result: machine, commit, load, and a table for each part."""
    known, plan = result["facts"], result["plan"]
    loads = [cell["load_before"] for part in PARTS for cell in result.get(part, [])] or [0.0]
    machine = known["machine"]
    blocks = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']},"
        f" Python {known['python']}; {known['when']}\n"
        f"commit {known['commit'][:12]}, changed files {known['changed_files']};"
        f"{' quick;' if plan['quick'] else ''} streams: {plan['congestion']};"
        f" load before a cell {min(loads):.1f} to {max(loads):.1f}"
    ]
    if result["matrix"]:
        blocks += [matrix_table(result["matrix"]), matrix_summary(result["matrix"])]
    if result["peers"]:
        versions = (f"{name} {entry['version']}" for name, entry in known["peers"].items())
        blocks += [peers_table(peers_summary(result["peers"])), ", ".join(versions)]
    if result["fairness"]:
        blocks.append(fairness_table(result["fairness"]))
    if result.get("lanes"):
        blocks.append(lanes.lanes_table(result["lanes"]))
    return "\n\n".join(blocks)


def _line(texts: Iterable[str]) -> str:
    return " ".join(text.ljust(width) for text, width in zip(texts, WIDTHS, strict=True)).rstrip()


def _trips(trips: dict[str, float], percent: int) -> str:
    lost = f" ({trips['lost']:g} lost)" if trips["lost"] else ""
    return (
        f"{trips.get('p50', float('nan')):.0f} / {trips.get(f'p{percent}', float('nan')):.0f}{lost}"
    )


def _inside(found: Row) -> str:
    joins = (found.get("status") or {}).get("join") or [{}]
    times = (joins[0].get("rtt_ms"), found.get("inner_tcp", {}).get("rtt"))
    return " / ".join("–" if each is None else f"{each:.0f}" for each in times)


def _verdict(checks: list[Row]) -> str:
    short = [f"{check['what']}{_bounds(check)}" for check in checks if not check["met"]]
    return f"SHORT: {', '.join(short)}" if short else "ok"


def _bounds(check: Row) -> str:
    low, high = check["low"], check["high"]
    return ("" if low is None else f" ≥ {low:g}") + ("" if high is None else f" ≤ {high:.3g}")


def _merged(values: list[Row]) -> Row:
    """Medians of rates and times, sums of counts."""

    return {
        "mbit": statistics.median(each["mbit"] for each in values),
        **{key: _pings([each[key] for each in values]) for key in ("ping_alone", "ping_beside")},
    }


def _pings(rounds: list[dict[str, float]]) -> dict[str, float]:
    answered = [each for each in rounds if "p50" in each]
    merged: dict[str, float] = {key: sum(each[key] for each in rounds) for key in ("sent", "lost")}
    for key in ("p50", "p95", "p99") if answered else ():
        merged[key] = statistics.median(each[key] for each in answered)
    return merged
