"""`serve --user`: where the state is, and what that user must not decide."""

import os

import pytest

from vswitch.cli import serve
from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError
from vswitch.namespaces import privilege
from vswitch.namespaces.privilege import Capability
from vswitch.serving.configuration import Configuration
from vswitch.state import StateDir

BOTH = {Capability.NET_BIND_SERVICE, Capability.NET_ADMIN}


@pytest.fixture
def become(monkeypatch):
    """The capabilities that `--user` keeps, of a program that stays who it is."""
    kept, changes = [], []

    def become(user, needed, files):
        kept.append(set(needed))
        return changes.pop()

    monkeypatch.setattr(privilege, "become", become)

    def ask(config, given=None, *, changed=False):
        changes.append(changed)
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


@pytest.mark.parametrize("network", ["default", "lab"])
def test_a_local_port_that_is_kept_alone_is_refused_at_the_start(become, tmp_path, network):
    files, file = StateDir(tmp_path / "state"), tmp_path / "serve.toml"
    files.ensure()
    at = "serve" if network == "default" else "network.lab"
    file.write_text("[network.lab]\nsubnet = '10.78.0.0/24'\ndev = 'lab'\n")
    config, given = ServeConfig(state=files.path, config=file), {"state": files.path}
    given |= {"config": file}
    files.saved.write_text(f"[{at}]\nlocal_port = true\n")
    with pytest.raises(ConfigError, match=rf"saved.toml: {at}.local_port: .*of other, who gets no"):
        become(config, given, changed=True)
    assert become(config, given) == {Capability.NET_BIND_SERVICE}  # systemd says what it may
    with file.open("a") as more:
        more.write("local_port = true\n")  # of one network; then all may have one
    assert become(config, given, changed=True) == BOTH
    file.write_text(file.read_text().replace("local_port = true\n", ""))
    files.saved.unlink()
    assert become(config, given, changed=True) == {Capability.NET_BIND_SERVICE}
