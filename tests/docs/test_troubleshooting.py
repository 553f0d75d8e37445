"""docs/troubleshooting.md has the doctor's table, word for word."""

import re
from pathlib import Path

from vswitch.doctor.table import TABLE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text()


def row(kind):
    remedy = kind.remedy.replace("|", r"\|")
    return f"| `{kind.id}` | {kind.severity} | {kind.title} | {remedy} |"


def test_every_finding_is_explained_as_the_doctor_says_it():
    assert re.findall(r"^\| `[a-z-]+` \|.*$", PAGE, re.M) == [row(each) for each in TABLE.values()]
