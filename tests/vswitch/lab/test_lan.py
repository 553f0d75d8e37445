"""Which vswitch a host of the lab runs."""

import sys

import pytest

from vswitch.lab import Lab
from vswitch.lab.lan import Code, Lan

SAYS = "import os, sys; print(__file__, sys.flags.optimize, os.environ['WORD'], sys.argv[1])"


@pytest.mark.netns
def test_a_host_runs_the_checkout_that_it_was_given(tmp_path):
    package = tmp_path / "vswitch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(SAYS)
    with Lab() as lab:
        lan = Lan(lab)
        lan.code["switch"] = Code(tmp_path, (sys.executable, "-O"), {"WORD": "hello"})
        said = lan.command(lan.switch, "status").stdout.split()
        assert said == [str(package / "__main__.py"), "1", "hello", "status"]
        member = lan.command(lan.host("pc1"), "--version", check=False)
        assert member.stdout.startswith("vswitch ")
