"""The public names of both packages, and what a start loads for them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import transport
import vswitch
from transport import PrivateKey
from vswitch.registry.registry import Registry

HEAVY = {"trio", "pyroute2", "cryptography", "cattrs"}
START = (
    "import sys; from vswitch.cli import main; code = main(); print(*sys.modules); sys.exit(code)"
)


def loads(program, *args):
    """The exit code of a program, and the top-level modules that it has loaded in the end."""
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=False
    )
    modules = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert {"sys", "vswitch"} <= modules or "transport" in modules
    return done.returncode, modules


@pytest.mark.parametrize("package", [vswitch, transport])
def test_every_public_name_is_there_and_is_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) == set(package._HOMES) <= set(dir(package))


@pytest.mark.parametrize("package", [vswitch, transport])
def test_a_name_that_is_not_there_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="no attribute 'opne_switch'"):
        _ = package.opne_switch


@pytest.mark.parametrize("package", ["vswitch", "transport"])
def test_importing_a_package_loads_nothing_of_it(package):
    code, modules = loads(f"import sys, {package}; print(*sys.modules)")
    assert (code, modules & {*HEAVY, "attrs"}) == (0, set())


@pytest.fixture
def state(tmp_path):
    """A state directory with a registry of one member, and nobody who serves from it."""
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        registry.enrol_local(PrivateKey.generate().public.raw, "pc1", time.time())
    return str(tmp_path)


@pytest.mark.parametrize(("command", "code"), [("members", 0), ("status", 3), ("port show pc1", 3)])
def test_a_command_that_looks_loads_no_heavy_library(state, command, code):
    ended, modules = loads(START, *command.split(), "--state", state)
    assert (ended, modules & HEAVY) == (code, set())


@pytest.mark.parametrize(
    "words", ["--help", "--version", "serve --help", "join --help", "nonsense"]
)
def test_help_loads_no_heavy_library(words):
    code, modules = loads(START, *words.split())
    assert (code, modules & HEAVY) == (2 if words == "nonsense" else 0, set())
