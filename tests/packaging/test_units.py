"""The units keep the figure of `systemd-analyze security` that docs/operations.md states."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("unit", ["vswitch-serve.service", "vswitch-join@.service"])
def test_a_unit_is_no_more_exposed_than_documented(unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    text = (ROOT / "docs/operations.md").read_text()
    stated = re.search(rf"`{re.escape(unit)}`(?: an exposure of)? (\d\.\d)", text)
    assert stated is not None
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", ROOT / "examples" / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd-analyze security --offline (systemd 250)")
    found = re.search(r"Overall exposure level for .*: (\d+\.\d+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= float(stated[1])


@pytest.mark.parametrize(
    "unit", sorted((ROOT / "examples").glob("*.service")), ids=lambda p: p.name
)
def test_a_unit_needs_no_program_that_a_small_system_lacks(unit):
    programs = set(re.findall(r"^Exec\w+=(\S+)", unit.read_text(), re.MULTILINE))
    own = {each for each in programs if each.endswith("/bin/vswitch")}
    assert own
    assert programs - own <= {"/bin/sh"}  # not /bin/kill, which is of procps in Debian
