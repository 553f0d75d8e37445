"""A state directory, the switch that has served from it, and a way to run a command there."""

from __future__ import annotations

import os

import pytest

from transport.crypto.identity import create_key_file
from vswitch.addresses import HostPort
from vswitch.cli import main
from vswitch.config.options import ServeConfig
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.state import StateDir

PUBLIC = HostPort("switch.example.org", 0)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("VSWITCH_"):
            monkeypatch.delenv(name)


@pytest.fixture
def files(tmp_path):
    files = StateDir(tmp_path / "s")
    files.ensure()
    return files


@pytest.fixture
def switch(files):
    """State as `serve` leaves it."""
    key = create_key_file(files.server_key).public
    with Registry.open(files.registry) as registry:
        registry.record_served(
            LastServed((HostPort("::", 7000),), (PUBLIC,), ServeConfig().subnet, key=key)
        )
        yield registry


@pytest.fixture
def run(files, capsys):
    def run(command, *args):
        code = main([command, "--state", str(files.path), *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run
