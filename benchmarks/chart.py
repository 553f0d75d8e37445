"""One picture of a comparison: `python -m benchmarks.chart RESULT.json PICTURE.svg`.

Bars of one TCP stream's throughput (the mean of both ways) for each peer, a row of bars for each
underlay, from the summary that `benchmarks.compare --json` writes. The SVG has no scripts and
brings its own colours, so that it can be read on a light and on a dark page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

BAR, GAP, LEFT, WIDTH = 22, 8, 150, 720  # pixels
OURS, THEIRS = "#1f77b4", "#9aa5b1"
TEXT = 'font-family="sans-serif" font-size="13" fill="#57606a"'


def throughput(entry: dict[str, Any]) -> float:
    """Mbit/s of one TCP stream, both ways averaged."""
    tcp = entry["figures"]["tcp"]
    return float(tcp["1_up"]["mbit"] + tcp["1_down"]["mbit"]) / 2


def chart(result: dict[str, Any], leave_out: frozenset[str] = frozenset({"bare", "vxlan"})) -> str:
    """The SVG. `leave_out`: peers that only bound what is possible, and encrypt nothing."""
    entries = [
        entry
        for entry in result["summary"]
        if entry["figures"] is not None and entry["peer"] not in leave_out
    ]
    underlays = list(dict.fromkeys(entry["underlay"] for entry in entries))
    longest = max(map(throughput, entries))
    lines, y = [], 44
    for underlay in underlays:
        lines.append(f'<text x="0" y="{y}" {TEXT} font-weight="bold">underlay {underlay}</text>')
        y += 14
        for entry in (entry for entry in entries if entry["underlay"] == underlay):
            value = throughput(entry)
            length = max(1, round((WIDTH - LEFT - 70) * value / longest))
            colour = OURS if entry["peer"] == "vswitch" else THEIRS
            middle = y + BAR - 6
            lines += [
                f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end" {TEXT}>'
                f"{escape(entry['peer'])}</text>",
                f'<rect x="{LEFT}" y="{y}" width="{length}" height="{BAR}" fill="{colour}"/>',
                f'<text x="{LEFT + length + 8}" y="{middle}" {TEXT}>{value:.0f}</text>',
            ]
            y += BAR + GAP
        y += 26
    title = "One TCP stream through the switch, Mbit/s, encrypted, three processes on two cores"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y - 20}" role="img">\n'
        f'<text x="0" y="14" {TEXT}>{title}</text>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a comparison.")
    parser.add_argument("result", type=Path, help="what benchmarks.compare --json wrote")
    parser.add_argument("picture", type=Path, help="the SVG to write")
    args = parser.parse_args()
    args.picture.write_text(chart(json.loads(args.result.read_text())))


if __name__ == "__main__":
    main()
