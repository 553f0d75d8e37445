"""`serve --user`: where the state is, and what that user must not decide."""

import os

import pytest

from vswitch.cli import serve
from vswitch.config.options import ServeConfig
from vswitch.namespaces import privilege
from vswitch.namespaces.privilege import Capability
from vswitch.serving.configuration import Configuration
from vswitch.state import StateDir

BOTH = {Capability.NET_BIND_SERVICE, Capability.NET_ADMIN}


@pytest.fixture
def become(monkeypatch):
    """The capabilities that `--user` keeps, of a program that stays who it is."""
    kept = []
    monkeypatch.setattr(privilege, "become", lambda user, needed, files: kept.append(set(needed)))

    def ask(config, given=None):
        serve._become("other", config, given or {})
        return kept.pop()

    return ask


def test_the_state_stays_where_it_was_for_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    began = ServeConfig(user="other")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setenv("HOME", str(tmp_path))
    read = Configuration.read(began, {"user": "other"})
    assert read.config.state == read.again().config.state == began.state
    file = tmp_path / "serve.toml"
    file.write_text(f'[serve]\nstate = "{tmp_path}"\n')
    assert Configuration.read(ServeConfig(config=file), {"config": file}).config.state == tmp_path


def test_what_the_user_may_write_gives_no_capability_and_is_not_read_by_root(become, tmp_path):
    files, file = StateDir(tmp_path / "state"), tmp_path / "serve.toml"
    files.ensure()
    file.write_text("[serve]\n")
    config, given = ServeConfig(state=files.path, config=file), {"state": files.path}
    given |= {"config": file}
    files.saved.write_text("[serve]\nlocal_port = true\n")
    assert become(config, given) == {Capability.NET_BIND_SERVICE}
    files.saved.write_text("root:secret")
    assert become(config, given) == {Capability.NET_BIND_SERVICE}
    files.saved.unlink()
    file.write_text("[serve]\nlocal_port = true\n")
    assert become(config, given) == BOTH
