"""What a program under `exec` is told about the names of the LAN."""

from vswitch.cli.exec import names_of
from vswitch.config.options import ExecConfig


def test_only_names_with_an_address_are_taken_over(monkeypatch, tmp_path):
    """A hostile switch writes no lines of its own into /etc/hosts, and no name as an address."""
    members = [
        {"name": "pc1", "address": "10.77.0.2/24"},
        {"name": "none", "address": None},
        {"name": "six", "address": "fd00::2/64"},
        {"name": "evil", "address": "host.example/24"},
        {"name": "evil", "address": "10.77.0.3\n10.77.0.4 bank/24"},
        {"name": "a b", "address": "10.77.0.5/24"},
        {"name": "c\n10.77.0.6 d", "address": "10.77.0.6/24"},
    ]
    monkeypatch.setattr("vswitch.management.client.request", lambda *_, **__: {"members": members})
    config = ExecConfig(name="t1", state=tmp_path)
    assert names_of(config) == {"pc1": "10.77.0.2", "six": "fd00::2"}
