"""Findings in docs/security.md and reports in docs/testing.md name tests, and these exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
TESTING = (TESTS.parent / "docs" / "testing.md").read_text()
SECURITY = (TESTS.parent / "docs" / "security.md").read_text()


def findings(text, title="What was found"):
    """The tests that hold each row below that heading, by its words."""
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!Found|Situation|-)(.+?) \| (.+) \|$", section, re.MULTILINE)
    assert rows
    return {found: re.findall(r"`([\w/]+\.py)::(\w+)`", held) for found, held in rows}


FINDINGS = findings(SECURITY) | findings(TESTING, "What people have reported")


def is_there(path, name):
    """Whether that file has a test of that name."""
    file = TESTS / path
    return file.is_file() and any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        for node in ast.parse(file.read_text()).body
    )


@pytest.mark.parametrize("found", FINDINGS)
def test_the_tests_that_hold_a_finding_are_there(found):
    assert FINDINGS[found]
    assert not [test for test in FINDINGS[found] if not is_there(*test)]


def test_a_test_that_is_gone_would_be_noticed():
    text = (
        "\n## What was found\n\n| Found | Held by |\n|---|---|\n| it | `docs/test_x.py::test_y` |\n"
    )
    assert findings(text) == {"it": [("docs/test_x.py", "test_y")]}
    assert not is_there("docs/test_x.py", "test_y")
    assert not is_there("docs/test_findings.py", "test_y")
    assert is_there("docs/test_findings.py", "test_a_test_that_is_gone_would_be_noticed")
