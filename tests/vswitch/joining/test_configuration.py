"""What a member goes by: it goes round, is changed whole or not, and shows no secret."""

import logging
import tomllib

import pytest
import trio

from tests.vswitch.api.test_api import Client
from tests.vswitch.config.test_texts_fuzz import SAMPLES
from tests.vswitch.control import a_member
from vswitch.cli import command_line
from vswitch.cli.join import member_config
from vswitch.config.document import Document, to_toml
from vswitch.config.options import ExecConfig, JoinConfig, ProxyConfig
from vswitch.config.sources import fill, load, options_of
from vswitch.joining import configuration as module
from vswitch.joining.configuration import AT_ONCE, MemberConfiguration

SAID = {  # each other than by default
    **SAMPLES,
    "log_level": "debug", "log_days": "3", "dev": "vsw7", "path": "udp", "accept_ra": "off",
    "resolver": "10.77.0.1", "socks": "1080,/run/x", "socks_users": "/x",
    "forward": "udp:127.0.0.1:53=ns:53,8080=pc2:80", "reverse": "80=127.0.0.1:8080",
    "max_connections": "9", "max_associations": "9", "idle": "off", "udp_idle": "90s",
    "dhcp": "true", "shell": "true", "keep": "true", "root": "true",
}  # fmt: skip


@pytest.fixture
def level():
    """What the level of the log is, and that it is so again."""
    logger, other = logging.getLogger("vswitch"), logging.getLogger("transport")
    before = logger.level, other.level
    yield lambda: logging.getLevelName(logger.level)
    logger.setLevel(before[0])
    other.setLevel(before[1])


@pytest.mark.parametrize("cls", [JoinConfig, ExecConfig, ProxyConfig])
@pytest.mark.parametrize("proxy", ["http://p.example:3128", "p.example"])
async def test_what_is_told_is_what_a_file_would_say(cls, proxy, monkeypatch):
    names = {name for name, entry in options_of(cls).items() if entry.in_file}
    config = load(cls, {**{name: SAID[name] for name in names}, "proxy": proxy}, {})
    held = []

    async def go_by(new):
        held.append(new)

    monkeypatch.setattr(module, "check_routes", lambda _: None)  # some exclude each other
    configuration = MemberConfiguration(config, go_by)
    said = configuration.whole()
    assert {table: set(its) for table, its in said.items()} == {cls.table: names}
    text = to_toml(said)
    again = fill(
        cls, {}, Document("text", tomllib.loads(text)), table=cls.table, tables=[cls.table]
    )
    assert again == config
    assert (await configuration.replace(said)).changes == []
    assert held == [config]


async def test_it_is_changed_whole_or_not_at_all(site, monkeypatch, level):
    began = {"lane": "auto", "accept_routes": "192.168.0.0/16", "log_level": "debug"}
    async with a_member(site, monkeypatch, **began) as (where, member):
        client = Client(where)
        status, tables, headers = await client("GET", "/v1/config")
        assert tables == {
            "join": {
                "name": "pc1",
                "state": str(member.config.state),
                "lane": "auto",
                "log_level": "debug",
                "accept_routes": ["192.168.0.0/16"],
            }
        }
        tag = {"If-Match": headers["ETag"]}
        ours = tables["join"]
        for wrong, why in (
            ({**ours, "lane": "kcp", "exit_node": "gw"}, "join.lane: cannot change while"),
            ({**ours, "exit_node": "pc1"}, "that is this member itself"),
            ({**ours, "exit_node": "gw", "log_level": "loud"}, "join.log_level = loud: must be"),
            ({**ours, "exit_node": "gw", "mtu": None}, "join.mtu: null is no value"),
            ({**ours, "allow_domain": "x" * 5000}, "join.allow_domain = xxx"),
            ({**ours, "invite": "vsw2:x"}, "unknown option invite"),
            ({**ours, "given": []}, "unknown option given"),
            ({"lane": "auto"}, "join.state: cannot change while"),
            ([], "must be a table"),
        ):
            status, said, _ = await client("PUT", "/v1/config", {"join": wrong}, **tag)
            assert (status, why in said["error"]) == (400, True), said
            assert len(said["error"]) <= 1000
            assert said["problem"] == ("restart" if "cannot" in why else "wrong")
        status, said, _ = await client("PUT", "/v1/config", {**tables, "serve": {}})
        assert (status, "unknown table serve" in said["error"]) == (400, True)
        assert (await client("GET", "/v1/config"))[1] == tables

        wanted = {**ours, "exit_node": "gw", "log_level": "warning"}
        del wanted["accept_routes"]
        status, said, _ = await client("PUT", "/v1/config", {"join": wanted}, **tag)
        assert status == 200, said
        keys = ["join.accept_routes", "join.exit_node", "join.log_level"]
        assert [each["key"] for each in said["changes"]] == keys
        assert said["unsaved"] == said["changes"]
        assert level() == "WARNING"
        assert (await member.status()).exit_node.startswith("gw is not there")
        status, said, _ = await client("PUT", "/v1/config", tables, **tag)
        assert (status, said["problem"]) == (412, "changed")
        state = (await client("GET", "/v1/config/state"))[1]
        sources = {each["key"][1]: each["source"] for each in state["settings"]}
        assert sources.pop("exit_node") == sources.pop("log_level") == "live"
        assert set(sources.values()) == {"option"}
        del tables["join"]["name"]  # there is no other here
        said = (await client("PUT", "/v1/config", tables))[1]
        assert (level(), said["unsaved"]) == ("DEBUG", [])


def test_what_can_change_is_an_option():
    assert options_of(JoinConfig).keys() >= AT_ONCE


async def test_no_secret_is_told(site, monkeypatch):
    async with a_member(site, monkeypatch) as (where, member):
        key = member.config.files.key("pc1").read_text().strip()
        for path in ("/v1/config", "/v1/config/state", "/v1/status", "/v1/events"):
            said = str((await Client(where)("GET", path))[1])
            assert "pc1" in said
            assert key not in said
            assert member.config.invite not in said


def test_who_says_what_is_known_from_the_start(tmp_path, monkeypatch):
    file = tmp_path / "join.toml"
    file.write_text('[join]\nname = "pc1"\nlane = "auto"\nmtu = 1400\n')
    monkeypatch.setenv("VSWITCH_MTU", "1300")
    argv = ["join", "--config", str(file), "--path", "udp", "--state", str(tmp_path)]
    config = member_config(command_line().parse_args(argv), JoinConfig)
    state = MemberConfiguration(config, trio.sleep).state()
    assert (state.file, state.saved_file) == (str(file), None)
    assert {each.key[1]: (each.value, each.source) for each in state.settings} == {
        "name": ("pc1", "file"),
        "lane": ("auto", "file"),
        "mtu": (1300, "option"),
        "path": ("udp", "option"),
        "state": (str(tmp_path), "option"),
    }
