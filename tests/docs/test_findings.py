"""Each finding in docs/security.md names tests, and they exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SECURITY = (TESTS.parent / "docs" / "security.md").read_text()


def findings(text):
    """The tests that hold each finding, by its words."""
    section = text.partition("\n## What was found\n")[2]
    rows = re.findall(r"^\| (?!Found|-)(.+?) \| (.+) \|$", section, re.MULTILINE)
    assert rows
    return {found: re.findall(r"`([\w/]+\.py)::(\w+)`", held) for found, held in rows}


FINDINGS = findings(SECURITY)


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
