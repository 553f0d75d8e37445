"""Rules of `[[publish]]` as operators write them, right and wrong."""

from ipaddress import IPv4Network
from math import inf

import pytest

from vswitch.config.places import to_published
from vswitch.errors import ConfigError
from vswitch.services import publish_rules
from vswitch.services.publish_rules import load_published, read_rule

SUBNET = IPv4Network("10.77.0.0/24")


def rule(**said):
    return read_rule({"listen": "tcp://:8080", "to": "pc1:80"} | said, "here", SUBNET)


def test_defaults_and_settings():
    plain = rule()
    assert (plain.max_connections, plain.per_client, plain.rate) == (1024, 768, None)
    assert (plain.idle, plain.udp_idle) == (3 * 3600, 120)
    assert rule(idle="off").idle == inf
    assert rule(max_connections=1).per_client == 1
    assert rule(max_per_client="off").per_client is None
    assert rule(listen="udp://:1").per_client is None
    assert rule(listen="udp://:1", max_per_client=5).per_client == 5
    full = rule(max_per_client="5", rate=0.5, rate_per_client="10/s", idle="30s", allow="::/0")
    assert (full.max_per_client, full.rate, full.rate_per_client) == (5, 0.5, 10)
    ranged = rule(listen="tcp://:8000-8002", to="pc1:9000-9002")
    assert [ranged.target_port(port) for port in ranged.listen.ports] == [9000, 9001, 9002]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"listen": None}, "listen is missing"),
        ({"to": None}, "to is missing"),
        ({"listen": "tcp://:8000-8002"}, "3 ports are listened at, and 1"),
        ({"listen": "udp://:53", "proxy_protocol": True}, "is for TCP"),
        ({"to": "192.0.2.1:80"}, "no address of the LAN"),
        ({"to": "127.0.0.1:80"}, "no address of the LAN"),
        ({"to": "[2001:4860::1]:80"}, "no address of the LAN"),
        ({"to": "[2001:db8::1]:80"}, "no address of the LAN"),
        ({"to": "[::1]:80"}, "no address of the LAN"),
        ({"max_connection": 1}, "did you mean 'max_connections'"),
        ({"rate": "fast"}, r"here\.rate = fast: write a rate"),
        ({"allow": "203.0.113.1"}, "networks such as"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(said, reason):
    with pytest.raises(ConfigError, match=reason) as error:
        rule(**said)
    assert str(error.value).startswith("here")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("tcp://:80", "tcp://127.0.0.1:80", True),
        ("tcp://:80", "tcp://[::1]:80", True),
        ("tcp://0.0.0.0:80", "tcp://192.0.2.1:70-80", True),
        ("tcp://0.0.0.0:80", "tcp://[2001:db8::1]:80", False),
        ("tcp://0.0.0.0:80", "udp://0.0.0.0:80", False),
        ("tcp://:80", "tcp://:81-90", False),
        ("tcp://192.0.2.1:80", "tcp://192.0.2.2:80", False),
    ],
)
def test_two_rules_for_one_place_are_refused(one, other, overlap, tmp_path):
    path = tmp_path / "vswitch.toml"
    tables = []
    for listen in (one, other):
        ports = to_published(listen).ports
        tables.append(f'[[publish]]\nlisten = "{listen}"\nto = "pc1:{ports[0]}-{ports[-1]}"\n')
    path.write_text("".join(tables))
    if not overlap:
        assert len(load_published(path, SUBNET)) == 2
        return
    with pytest.raises(ConfigError, match=r"publish\[2\]: .+ takes what comes to"):
        load_published(path, SUBNET)


def test_a_file_is_read_whole_and_every_problem_told(tmp_path, monkeypatch):
    path = tmp_path / "vswitch.toml"
    assert load_published(None, SUBNET) == ()
    path.write_text('publish = "tcp://:80"')
    with pytest.raises(ConfigError, match="two brackets"):
        load_published(path, SUBNET)
    path.write_text('[[publish]]\nlisten = "x"\nto = "pc1:80"\n[[publish]]\nto = "pc1:80"\n')
    with pytest.raises(ConfigError) as error:
        load_published(path, SUBNET)
    assert [line.split(":")[1].strip() for line in str(error.value).splitlines()] == [
        "publish[1].listen = x",
        "publish[2]",
    ]
    monkeypatch.setattr(publish_rules, "MAX_PUBLISHED", 1)
    path.write_text("".join(f'[[publish]]\nlisten="tcp://:{n}"\nto="a:1"\n' for n in (1, 2)))
    with pytest.raises(ConfigError, match="1 rules already"):
        load_published(path, SUBNET)


@pytest.mark.parametrize(
    "rules",
    [
        (("tcp://:80", "10.77.0.1:80"),),
        (("udp://10.77.0.1:80-90", "10.77.0.1:90-100"),),
        (("tcp://:80", "10.77.0.1:81"), ("tcp://:81", "pc1:80")),
        (("tcp://:81", "pc1:80"), ("tcp://:80", "10.77.0.1:81")),
    ],
)
def test_a_rule_that_leads_back_to_the_switch_is_refused(tmp_path, rules):
    path = tmp_path / "vswitch.toml"
    tables = (f'[[publish]]\nlisten = "{listen}"\nto = "{to}"\n' for listen, to in rules)
    path.write_text("".join(tables))
    with pytest.raises(ConfigError, match=rf"publish\[{len(rules)}\]: .* without end: name the"):
        load_published(path, IPv4Network("10.77.0.0/24"))


def test_another_service_of_the_switch_itself_may_be_published(tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text('[[publish]]\nlisten = "udp://192.0.2.1:53"\nto = "10.77.0.1:53"\n')
    assert len(load_published(path, IPv4Network("10.77.0.0/24"))) == 1
