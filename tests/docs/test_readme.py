"""The README does what it says: its Python runs, its two commands are the ones of CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "docs" / "README.zh.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("source", blocks("python"))
def test_python_of_the_readme_runs(source, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "hello from 02:00:00:00:00:0a\n['02:00:00:00:00:0a on port 1']\n"


def test_readme_has_python_to_run():
    assert len(blocks("python")) == 1


def test_readme_has_its_two_commands_on_lines_of_their_own():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    install = "python3 -m venv .venv && .venv/bin/pip install -q "
    assert f"{install}. && .venv/bin/vswitch demo" in lines
    assert f"{install}-e '.[test]' && .venv/bin/pytest -n 4" in lines


def test_ci_ends_with_the_test_line_of_the_readme():
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert last in README.splitlines()


def test_readme_begins_with_what_the_program_is_and_for_whom():
    opening = "\n".join(README.split("\n\n", 2)[1].splitlines()[:5])
    assert "Ethernet switch" in opening
    assert "For people who" in opening


def test_pings_of_the_readme_are_those_of_the_table():
    """Medians of pings 50 ms apart, ours and those of the encrypted others, on the three wires."""
    table = (ROOT / "docs" / "performance.md").read_text()
    ours, others = [], []
    for name, row in re.findall(r"^(vswitch|fastd\S*|openvpn|tinc)  +(.*)$", table, re.M):
        pings = re.findall(r"[\d.]+ / ([\d.]+) / [\d.]+", row)  # 2 ms apart, 50 ms, 1 s, loaded
        (ours if name == "vswitch" else others).append(float(pings[1]))
    assert (len(ours), len(others)) == (3, 9)
    said = re.search(
        r"half take\s+less than ([\d.]+) to ([\d.]+) ms, where .*? ([\d.]+) to (\d\.\d)", README
    )
    found = [min(ours), max(ours), min(others), max(others)]
    assert list(said.groups()) == [f"{ms:.1f}" for ms in found]


def outline(text: str, folder: str) -> list[tuple[str, list[str], list[str]]]:
    """Of each section, in order: level of the title, blocks of code, where links lead."""
    fence = r"^```.*?^```$"
    found = []
    for part in re.split(r"^(?=#+ [^\n]*\n\n)", text, flags=re.M)[1:]:
        prose = re.sub(fence, "", part, flags=re.DOTALL | re.M)
        links = [
            os.path.normpath(f"{folder}/{path}")
            for path in re.findall(r"\]\((?!https:)([^)#]+)", prose)
            if not path.endswith(("README.md", "README.zh.md")) or "decisions" in path
        ]
        found.append((part.split()[0], re.findall(fence, part, re.DOTALL | re.M), links))
    return found


def test_the_chinese_readme_has_the_same_sections_code_and_links():
    english, chinese = outline(README, "."), outline(CHINESE, "docs")
    assert len(english) == len(re.findall(r"^## ", README, re.M)) + 1
    for ours, theirs in zip(english, chinese, strict=True):
        assert theirs == ours


def figures(text: str) -> list[list[str]]:
    """Of each section, those that are written with digits; `layer 2` and `2-core` are words."""
    prose = re.sub(
        r"^```.*?^```$|\]\([^)]*\)|layer 2|2-core", "", text, flags=re.DOTALL | re.M | re.I
    )
    parts = re.split(r"^#+ ", prose, flags=re.M)[1:]
    return [sorted(re.findall(r"\d[\d,.]*\d|\d", part)) for part in parts]


def test_the_chinese_readme_has_the_same_figures():
    assert figures(CHINESE) == figures(README)


def test_the_two_readmes_lead_to_each_other():
    assert "](docs/README.zh.md)" in README
    assert "](../README.md)" in CHINESE
