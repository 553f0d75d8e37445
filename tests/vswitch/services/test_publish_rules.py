"""Rules of `[[publish]]` as operators write them, right and wrong."""

from ipaddress import IPv4Network
from math import inf

import pytest

from vswitch.config.converters import to_published, to_target
from vswitch.errors import ConfigError
from vswitch.services import publish_rules
from vswitch.services.publish_rules import load_published, read_rule

SUBNET = IPv4Network("10.77.0.0/24")


def rule(**said):
    return read_rule({"listen": "tcp://:8080", "to": "pc1:80"} | said, "here", SUBNET)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp://:8080", "tcp://:8080"),
        ("tcp://[::]:8080", "tcp://:8080"),
        ("tcp://0.0.0.0:8080", "tcp://0.0.0.0:8080"),
        ("udp://192.0.2.1:53", "udp://192.0.2.1:53"),
        ("udp://[2001:DB8:0::1]:5000-5010", "udp://[2001:db8::1]:5000-5010"),
        ("tcp://:8000-8010", "tcp://:8000-8010"),
        ("tcp://:8000-8000", "tcp://:8000"),
    ],
)
def test_where_to_listen(text, canonical):
    listen = to_published(text)
    assert str(listen) == canonical
    assert to_published(str(listen)) == listen
    assert to_published(listen) is listen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8080", "tcp://"),
        ("http://:80", "tcp://"),
        (80, "text in quotes"),
        ("tcp://", "port is missing"),
        ("tcp://:0", "1 to 65535"),
        ("tcp://:70000", "not in 0..65535"),
        ("tcp://:9-8", "FIRST-LAST"),
        ("tcp://:80-", "not a port"),
        ("tcp://:1-2000", "1024 ports at most"),
        ("tcp://host:80", "IP address"),
        ("tcp://::1:80", "brackets"),
    ],
)
def test_where_not_to_listen(text, said):
    with pytest.raises(ValueError, match=said):
        to_published(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pc1:80", "pc1:80"),
        ("PC1.:80", "pc1:80"),
        ("10.77.0.5:80-90", "10.77.0.5:80-90"),
        ("[fd00::5]:80", "[fd00::5]:80"),
        ("web-1:8000-8010", "web-1:8000-8010"),
        ("a-80:80", "a-80:80"),
    ],
)
def test_where_it_leads(text, canonical):
    assert str(to_target(text)) == canonical


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":80", "name of a member"),
        ("pc1", "port is missing"),
        ("a_b:1", "a name is"),
        (1, "text in quotes"),
    ],
)
def test_where_it_cannot_lead(text, said):
    with pytest.raises(ValueError, match=said):
        to_target(text)


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
