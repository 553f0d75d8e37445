"""Where options come from, which source wins, and what wrong ones are told."""

from __future__ import annotations

import ast
import inspect
import re
from ipaddress import IPv4Network
from math import inf
from pathlib import Path

import pytest

import vswitch.config.options
from vswitch.addresses import HostPort
from vswitch.config.options import (
    TABLES,
    ExecConfig,
    InviteConfig,
    JoinConfig,
    LookConfig,
    ProxyConfig,
    ServeConfig,
)
from vswitch.config.sources import flag_of, load, options_of, variable_of
from vswitch.errors import ConfigError


def serve(flags=None, environ=None):
    return load(ServeConfig, flags or {}, environ or {}, table="serve", tables=TABLES)


def join(flags=None, environ=None, **fixed):
    flags = {"name": "pc1"} | (flags or {})
    return load(JoinConfig, flags, environ or {}, table="join", tables=TABLES, **fixed)


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "vswitch.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_defaults():
    config = serve()
    assert config.listen == (HostPort("::", 7450),)
    assert config.subnet == IPv4Network("10.77.0.0/24")
    assert (config.mtu, config.max_members, config.public) == (1500, 1024, ())
    assert (config.log_level, config.log_file, config.log_days) == ("info", None, 14)
    member = join()
    assert (member.dev, member.address, member.mtu) == ("vsw0", "auto", None)
    assert (member.bind, member.once, member.invite) == (None, False, None)
    assert member.offload is True


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(config_file):
    file = config_file('[serve]\nmtu = 1000\nlisten = ":1"\nsubnet = "10.1.0.0/16"\n')
    config = serve(
        {"config": file, "mtu": "3000"}, {"VSWITCH_MTU": "2000", "VSWITCH_LISTEN": "[::1]:2"}
    )
    assert config.mtu == 3000
    assert config.listen == (HostPort("::1", 2),)
    assert config.subnet == IPv4Network("10.1.0.0/16")
    assert config.max_members == 1024


def test_https_has_a_table_of_its_own(config_file):
    file = config_file("[https]\nlisten = ':443'\nprefix = '/lan'\n[serve]\nmtu = 900\n")
    config = serve({"config": file}, {"VSWITCH_HTTPS_PREFIX": "/other"})
    assert (config.https, config.https_prefix, config.mtu) == (HostPort("::", 443), "/other", 900)


def test_the_file_can_be_named_by_a_variable(config_file):
    assert serve({}, {"VSWITCH_CONFIG": config_file("[serve]\nmtu = 900\n")}).mtu == 900


def test_an_empty_variable_counts_as_unset():
    assert serve({}, {"VSWITCH_MTU": ""}).mtu == 1500


@pytest.mark.parametrize("cls", [ServeConfig, JoinConfig, ExecConfig, InviteConfig, LookConfig])
def test_every_option_has_flag_variable_and_help(cls):
    for name, entry in options_of(cls).items():
        assert flag_of(name).startswith("--")
        assert variable_of(name).startswith("VSWITCH_")
        assert entry.help
        assert entry.kind == "switch" or entry.metavar


def test_every_option_is_declared_once():
    tree = ast.parse(inspect.getsource(vswitch.config.options))
    declared = [
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and re.search(r"\b(option|rare)\(", ast.unparse(node))
    ]
    # The same word for two commands, with other defaults or meanings.
    shared = {"accept_ra", "accept_routes", "log_level", "mtu", "public"}
    assert {name for name in declared if declared.count(name) > 1} == shared


def test_the_invite_is_no_option_and_is_not_shown():
    assert "invite" not in options_of(JoinConfig)
    config = join({}, {"VSWITCH_INVITE": "wrong"}, invite="vsw1:secret")
    assert config.invite == "vsw1:secret"
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[https]\nlisten = 'x'\n", ["https.listen = x: "]),
        ("[https]\nlistn = ':443'\n", ["https: unknown option listn", "did you mean 'listen'"]),
        ("[serve]\nhttps = ':443'\n", ["serve: unknown option https"]),
        ("https = ':443'\n", ["https: must be a table"]),
        ("[serve]\nmut = 1500\n", ["serve: unknown option mut", "did you mean 'mtu'"]),
        ("[serve]\nmtu = 70000\n", ["serve.mtu = 70000", "must be 576 to 9000"]),
        ("[serve]\nmtu = 'big'\n", ["serve.mtu = big", "must be a whole number"]),
        ("[serve]\nmtu = true\n", ["serve.mtu = True", "must be a whole number"]),
        ("[serve]\nlisten = 7450\n", ["serve.listen = 7450", "must be text in quotes"]),
        ("[serve]\nlisten = 'example.org:1'\n", ["serve.listen", "listen on an IP address"]),
        ("[serve]\nsubnet = '10.0.0.1/24'\n", ["serve.subnet", "write 10.0.0.0/24"]),
        ("[serve]\nstate = ''\n", ["serve.state = ''", "must be a path"]),
        ("[serve]\nlog_level = 'loud'\n", ["serve.log_level = loud", "trace, debug, info"]),
        ("[serve]\nconfig = 'x'\n", ["unknown option config"]),
        ("[sevre]\n", ["unknown table sevre", "did you mean 'serve'"]),
        ("mtu = 1\n", ["unknown table mtu"]),
        ("serve = 1\n", ["serve: must be a table"]),
        ("[serve]\nmtu = \n", ["not TOML", "line 2"]),
        ("[serve]\nmtu = 1500\nmtu = 1400\n", ["not TOML", "line 3", "mtu = 1400"]),
        (b"[serve]\nmtu = '\xff'\n", ["not UTF-8", "line 2"]),
        ("x = " + "[" * 5000, ["not TOML"]),
        (b"#" * (2 << 20), ["larger than"]),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_and_the_reason(config_file, text, parts):
    path = config_file(text)
    with pytest.raises(ConfigError) as caught:
        serve({"config": path})
    for part in [path, *parts]:
        assert part in str(caught.value)


def test_all_that_is_wrong_in_a_file_is_told_at_once(config_file):
    path = config_file("[join]\nmtu = 1\ndev = 'a/b'\nwhat = 1\n")
    with pytest.raises(ConfigError) as caught:
        join({"config": path})
    assert len(str(caught.value).splitlines()) == 3


def test_an_invite_in_a_file_is_refused_without_showing_it(config_file):
    path = config_file("[join]\ninvite = 'vsw1:token'\n")
    with pytest.raises(ConfigError, match="unknown option invite") as caught:
        join({"config": path})
    assert "token" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
        serve({"config": str(tmp_path / "gone.toml")})


@pytest.mark.parametrize(
    ("flag", "text", "reason"),
    [
        ("mtu", "575", "must be 576 to 9000"),
        ("mtu", "9001", "must be 576 to 9000"),
        ("mtu", "1e3", "must be a whole number"),
        ("name", "PC1", "a name is"),
        ("name", "", "a name is"),
        ("dev", "a" * 16, "1 to 15 letters"),
        ("dev", "vsw%d", "1 to 15 letters"),
        ("dev", "..", "1 to 15 letters"),
        ("address", "10.0.0.1", "write auto, none"),
        ("bind", "not an if", "1 to 15 letters"),
        ("log_days", "-1", "must be 0 to"),
        ("once", "perhaps", "must be on or off"),
        ("offload", "2", "must be on or off"),
        ("state", "a\0b", "must be a path"),
        ("state", "~nosuchuserhere/x", "no such user"),
    ],
)
def test_a_wrong_flag_and_variable_are_named(flag, text, reason):
    with pytest.raises(ConfigError) as caught:
        join({flag: text})
    assert str(caught.value).startswith(flag_of(flag))
    assert reason in str(caught.value)
    if text and flag != "name":
        with pytest.raises(ConfigError) as caught:
            join({}, {variable_of(flag): text})
        assert str(caught.value).startswith(variable_of(flag) + "=")
        assert reason in str(caught.value)


def test_a_missing_name_says_how_to_give_it():
    with pytest.raises(ConfigError, match="--name, or set VSWITCH_NAME"):
        load(JoinConfig, {}, {}, table="join", tables=TABLES)


def test_switches_from_variables():
    assert join({}, {"VSWITCH_ONCE": "yes"}).once is True
    assert join({}, {"VSWITCH_ONCE": "0"}).once is False


def test_lane_from_flag_variable_and_file(config_file):
    assert join({}, {}).lane == "kcp"
    assert join({"lane": "datagram"}, {"VSWITCH_LANE": "kcp"}).lane == "datagram"
    assert join({}, {"VSWITCH_LANE": "AUTO"}).lane == "auto"
    assert join({"config": config_file("[join]\nlane = 'auto'\n")}).lane == "auto"


def test_offload_from_flag_variable_and_file(config_file):
    assert join({"offload": "off"}, {"VSWITCH_OFFLOAD": "on"}).offload is False
    assert join({}, {"VSWITCH_OFFLOAD": "OFF"}).offload is False
    for value in ("false", "'off'"):
        assert join({"config": config_file(f"[join]\noffload = {value}\n")}).offload is False
    with pytest.raises(ConfigError, match="must be on or off"):
        join({"config": config_file("[join]\noffload = 2\n")})


@pytest.mark.parametrize(
    "listen",
    [
        ["192.0.2.1:443", "[fe80::1%eth0]:7450"],
        "192.0.2.1:443, [fe80::1%eth0]:7450",
        (HostPort("192.0.2.1", 443), HostPort("fe80::1%eth0", 7450)),
    ],
)
def test_a_switch_can_listen_at_several_places(listen, config_file):
    places = (HostPort("192.0.2.1", 443), HostPort("fe80::1%eth0", 7450))
    assert ServeConfig(listen=listen).listen == places
    if not isinstance(listen, tuple):
        assert serve({"listen": listen}).listen == places
        assert serve({"config": config_file(f"[serve]\nlisten = {listen!r}\n")}).listen == places


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        ([], "listen at one place"),
        ([f":{port}" for port in range(1, 18)], "16 at most"),
        (
            ["192.0.2.1:1", "[::]:1"],
            r"\[::\]:1 takes what comes to 192.0.2.1:1, too: leave one out",
        ),
        (["0.0.0.0:1", "192.0.2.1:1"], "0.0.0.0:1 takes what comes to 192.0.2.1:1"),
        (["[::1]:1", "[0::1]:1"], r"\[::1\]:1 takes what comes to \[::1\]:1"),
        (["[fe80::1]:1"], r"say on which interface fe80::1 is: \[fe80::1%IFNAME\]:PORT"),
        ([7450], "must be text"),
    ],
)
def test_places_that_cannot_be_listened_at_together_are_refused(listen, reason):
    with pytest.raises(ValueError, match=reason):
        ServeConfig(listen=listen)


def test_places_that_have_their_own_traffic_go_together():
    for listen in (["0.0.0.0:1", "[::1]:1"], [":1", ":2"], ["127.0.0.1:0", "127.0.0.1:0"]):
        assert len(ServeConfig(listen=listen).listen) == 2


def test_a_program_gets_the_same_checks():
    assert ServeConfig(listen=":5", subnet="10.0.0.0/8").listen == (HostPort("::", 5),)
    with pytest.raises(ValueError, match="576 to 9000"):
        ServeConfig(mtu=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("24h", 86400), ("7d", 604800)]
)
def test_durations(text, seconds):
    assert load(InviteConfig, {"expires": text}, {}).expires == seconds


@pytest.mark.parametrize("text", ["", "5", "0s", "1.5.0h", "1w", "400d", "-1s", "٣s", "1h30m"])
def test_wrong_durations(text):
    with pytest.raises(ConfigError, match="--expires"):
        load(InviteConfig, {"expires": text}, {})


def test_public_without_a_port_takes_the_listening_one():
    assert serve({"public": "example.org"}).public == (HostPort("example.org", 0),)
    places = serve({"public": ["example.org", "10.0.0.1:9", "example.org"]}).public
    assert places == (HostPort("example.org", 0), HostPort("10.0.0.1", 9))
    with pytest.raises(ConfigError, match="4 places at most"):
        serve({"public": [f"10.0.0.{number}" for number in range(5)]})
    with pytest.raises(ConfigError, match="the host is missing"):
        serve({"public": ":7450"})


def test_state_directory_defaults(tmp_path):
    from vswitch.state import default_state_dir

    assert default_state_dir({}, 0) == Path("/var/lib/vswitch")
    assert default_state_dir({"XDG_STATE_HOME": "/s"}, 1000) == Path("/s/vswitch")
    home = default_state_dir({"XDG_STATE_HOME": "relative", "HOME": "/h"}, 1000)
    assert home == Path("/h/.local/state/vswitch")


@pytest.mark.parametrize("name", ["idle", "udp_idle"])
def test_what_ends_idle_connections_can_be_off(name):
    assert getattr(load(ProxyConfig, {"name": "pc1", name: "off"}, {}), name) == inf
