"""What a file may say of foreign ports, and what wrong words are told."""

import re
from pathlib import Path

import pytest

from vswitch.addresses import HostPort
from vswitch.errors import ConfigError
from vswitch.foreign.kinds import load_foreign


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "vswitch.toml"
        path.write_text(text)
        return load_foreign(path)

    return read


def test_without_a_table_there_is_no_foreign_port(load):
    assert load_foreign(None) == ()
    assert load("[serve]\nmtu = 1500\n") == ()


def test_every_kind_is_read_with_its_defaults(load):
    udp, tcp, vxlan, stream, dgram = load("""
[[foreign]]
kind = "udp"
listen = "0.0.0.0:5555"
max_ports = 3
name = "lab"
idle = "10m"
[[foreign]]
kind = "tcp"
listen = ":5556"
idle = 300
[[foreign]]
kind = "vxlan"
remote = "192.0.2.7"
vni = 42
[[foreign]]
kind = "qemu-stream"
listen = "unix:/run/vswitch/qemu"
[[foreign]]
kind = "qemu-dgram"
listen = "127.0.0.1:1234"
""")
    assert (udp.listen, udp.max_ports, udp.name) == (HostPort("0.0.0.0", 5555), 3, "lab")
    assert (udp.idle, tcp.idle, tcp.max_ports) == (600.0, 300.0, 64)
    assert tcp.listen == HostPort("::", 5556)
    assert (vxlan.remote, vxlan.vni) == (HostPort("192.0.2.7", 4789), 42)
    assert (vxlan.listen, vxlan.ports, vxlan.name) == (HostPort("::", 4789), 1, "vxlan")
    assert stream.listen == Path("/run/vswitch/qemu")
    assert dgram.name == "qemu-dgram"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[foreign]]\nlisten = ":1"', "kind is missing"),
        ('[[foreign]]\nkind = "ipx"', "must be one of udp"),
        ('[[foreign]]\nkind = "udp"', "listen is missing"),
        ('[[foreign]]\nkind = "udp"\nlisten = "unix:/x"', "not on a path"),
        ('[[foreign]]\nkind = "udp"\nlisten = ":1"\nmax_ports = 0', "must be 1 to 1024"),
        ('[[foreign]]\nkind = "udp"\nlisten = ":1"\nvni = 1', "are for vxlan"),
        ('[[foreign]]\nkind = "udp"\nlistn = ":1"', "did you mean 'listen'"),
        ('[[foreign]]\nkind = "vxlan"\nvni = 1', "needs remote and vni"),
        ('[[foreign]]\nkind = "vxlan"\nremote = "x"\nvni = 16777216', "must be 0 to 16777215"),
        ('[[foreign]]\nkind = "tcp"\nlisten = ":1"\nname = "A b"', "a name is 1 to 63"),
        ('[[foreign]]\nkind = "vxlan"\nremote = "x"\nvni = 1\nlisten = "unix:/x"', "not on a path"),
        ('[foreign]\nkind = "tcp"', "with two brackets"),
        ('[[foreign]]\nkind = "tcp"\nname = ["x"]', "name = .*: must be"),
        ("[[foreign]]\nkind = { a = 1 }", "kind = .*: must be"),
        ('[[foreign]]\nkind = "tcp"\nlisten = ":1"\n' * 2, "two are called tcp"),
        ('[[foreign]]\nkind = "qemu-stream"\nlisten = "unix:x"', "write unix:/PATH"),
    ],
)
def test_a_wrong_table_is_refused_with_the_reason(load, text, message):
    with pytest.raises(ConfigError, match=message):
        load(text)


def test_flags_are_listeners_beside_those_of_a_file(tmp_path):
    path = tmp_path / "f.toml"
    path.write_text('[[foreign]]\nkind = "udp"\nlisten = ":9000"\n')
    urls = ("udp://:9999", "tcp://[::1]:8080", "udp://127.0.0.1:9998", "qemu-stream:///run/q")
    found = load_foreign(path, urls)
    assert [(each.kind, each.name, str(each.listen)) for each in found] == [
        ("udp", "udp", "[::]:9000"),
        ("udp", "udp-2", "[::]:9999"),
        ("tcp", "tcp", "[::1]:8080"),
        ("udp", "udp-3", "127.0.0.1:9998"),
        ("qemu-stream", "qemu-stream", "/run/q"),
    ]
    assert load_foreign(None, urls[:1])[0].listen == HostPort("::", 9999)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("udp", "write KIND://"),
        ("udp://", "write KIND://"),
        ("upd://:9999", "must be one of udp, tcp"),
        ("udp://9999", "--foreign udp://9999"),
        ("udp:///run/x", "udp listens on an address, not on a path"),
        ("vxlan://:4789", "vxlan needs remote and vni"),
    ],
)
def test_a_wrong_flag_is_named(url, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load_foreign(None, (url,))
