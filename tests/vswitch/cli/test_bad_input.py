"""Every wrong flag, variable and file: exit code 2, a message with place and reason, no trace."""

from __future__ import annotations

import os

import pytest

from vswitch.cli import main
from vswitch.errors import ExitCode


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("VSWITCH_"):
            monkeypatch.delenv(name)


BAD_INPUT = [
    (["serve", "--listen", "7450"], {}, "", ["--listen 7450", "the port is missing"]),
    (["serve", "--listen", "host.example:1"], {}, "", ["--listen", "an IP address"]),
    (["serve", "--subnet", "10.77.0.1/24"], {}, "", ["--subnet", "write 10.77.0.0/24"]),
    (["serve", "--subnet", "10.77.0.0/33"], {}, "", ["--subnet", "not an IPv4 subnet"]),
    (["serve", "--public", ":1"], {}, "", ["--public :1", "the host is missing"]),
    (["serve", "--mtu", "10"], {}, "", ["--mtu 10", "must be 576 to 9000"]),
    (["serve", "--log-level", "loud"], {}, "", ["--log-level loud", "must be one of"]),
    (["serve"], {"VSWITCH_MTU": "x"}, "", ["VSWITCH_MTU=x", "must be a whole number"]),
    (["serve"], {"VSWITCH_CONFIG": "/nowhere.toml"}, "", ["/nowhere.toml", "cannot be read"]),
    (["serve"], {}, "[serve]\nsubent = 1\n", ["f.toml", "serve", "did you mean 'subnet'"]),
    (["serve"], {}, "[serve]\nmtu = 'big'\n", ["f.toml", "serve.mtu = big", "whole number"]),
    (["serve"], {}, "[serve\n", ["f.toml", "not TOML", "line 1"]),
    (["join"], {}, "", ["name is missing", "vswitch invite", "--name", "VSWITCH_NAME"]),
    (["join", "--name", "PC 1"], {}, "", ["--name 'PC 1'", "a name is"]),
    (["join"], {"VSWITCH_NAME": "-"}, "", ["VSWITCH_NAME=-", "a name is"]),
    (["join", "--name", "a", "--dev", "x" * 16], {}, "", ["--dev", "1 to 15 letters"]),
    (["join", "--name", "a", "--address", "10.0.0.300/24"], {}, "", ["--address", "auto, none"]),
    (["join", "--name", "a", "--lane", "tcp"], {}, "", ["--lane tcp", "kcp, datagram, auto"]),
    (["join", "--name", "a"], {}, "[join]\nlane = 7\n", ["join.lane = 7", "text in quotes"]),
    (["proxy", "--name", "a"], {}, "", ["--socks, --forward or --reverse"]),
    (["proxy", "--name", "a", "--socks", "udp:1"], {}, "", ["--socks udp:1", "listens on TCP"]),
    (["proxy", "--name", "a", "--forward", "80"], {}, "", ["--forward 80", "LISTEN=TARGET"]),
    (["proxy", "--name", "a"], {}, "[proxy]\nreverse = [80]\n", ["proxy.reverse", "in quotes"]),
    (
        ["proxy", "--name", "a", "--socks", "1", "--bridge", "b"],
        {},
        "",
        ["proxy takes no --bridge"],
    ),
    (
        ["proxy", "--name", "a", "--socks", "1", "--socks-users", "/nowhere"],
        *({}, "", ["--socks-users /nowhere", "cannot be read"]),
    ),
    (["join", "--name", "a"], {}, "[join]\ninvite = 'x'\n", ["unknown option invite"]),
    (["join", "--name", "a"], {"VSWITCH_ONCE": "?"}, "", ["VSWITCH_ONCE=?", "must be on or off"]),
    (["invite", "A"], {}, "", ["NAME 'A'", "a name is"]),
    (["invite", "a", "--expires", "soon"], {}, "", ["--expires soon", "30s, 10m"]),
    (["status"], {"VSWITCH_JSON": "maybe"}, "", ["VSWITCH_JSON=maybe", "must be on or off"]),
]


@pytest.mark.parametrize(("argv", "environ", "file", "parts"), BAD_INPUT)
def test_bad_input(tmp_path, monkeypatch, capsys, argv, environ, file, parts):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    argv = [*argv, "--state", str(tmp_path / "s")]
    if file:
        (tmp_path / "f.toml").write_text(file)
        argv += ["--config", str(tmp_path / "f.toml")]
    assert main(argv) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.startswith("vswitch: error: ") for line in err.splitlines())
    for part in parts:
        assert part in err
    assert not (tmp_path / "s").exists()
