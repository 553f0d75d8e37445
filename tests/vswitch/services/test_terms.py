"""`[dhcp]` of a configuration file: what is right becomes values, what is wrong is said with its
place.
"""

from ipaddress import IPv4Address, IPv4Network

import pytest

from vswitch.errors import ConfigError
from vswitch.frames.bootp import Option
from vswitch.services.terms import DhcpSettings, dhcp_settings

SUBNET = IPv4Network("10.77.0.0/24")


def test_what_a_file_says():
    said = dhcp_settings(
        {
            "dhcp": {
                "enabled": True,
                "range": "10.77.0.100-10.77.0.199",
                "lease_time": "30m",
                "reservations": {"52-54-00-00-00-0A": "10.77.0.50", "attic": "10.77.0.51"},
                "router": "10.77.0.7",
                "dns": ["10.77.0.1", "9.9.9.9"],
                "domain": "Home.Test.",
                "search": ["lan"],
                "routes": ["192.168.1.0/24 via 10.77.0.9"],
                "mtu": 1400,
                "port_limit": 5,
                "free_with_port": "on",
            }
        },
        "file: ",
    )
    assert said.reservations == {
        "52:54:00:00:00:0a": IPv4Address("10.77.0.50"),
        "attic": IPv4Address("10.77.0.51"),
    }
    assert said.lease_time == 1800
    assert said.domain == "home.test"
    assert said.free_with_port
    terms = said.terms(SUBNET, 1500, dns=(IPv4Address("10.77.0.1"),), domain="lan")
    assert (terms.mtu, terms.domain, len(terms.dns)) == (1400, "home.test", 2)


def test_what_follows_where_nothing_is_said():
    terms = DhcpSettings().terms(SUBNET, 1500, dns=(IPv4Address("10.77.0.1"),), domain="lan")
    assert (terms.mtu, terms.domain, terms.dns) == (1500, "lan", (IPv4Address("10.77.0.1"),))
    assert terms.server == IPv4Address("10.77.0.1")
    none = DhcpSettings(dns="", domain="none").terms(SUBNET, 1500, dns=terms.dns, domain="lan")
    assert Option.DNS not in none.options()
    assert Option.DOMAIN not in none.options()
    for small in ("10.77.0.0/30", "10.0.0.0/8"):
        assert DhcpSettings().pool(IPv4Network(small))


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"rang": "x"}, "did you mean 'range'"),
        ({"range": "10.77.0.5"}, "write the first and the last address"),
        ({"range": "10.77.0.9-10.77.0.5"}, "the first address comes before the last"),
        ({"range": "10.77.0.9-x"}, "write an IPv4 address"),
        ({"reservations": ["a"]}, "write {"),
        ({"reservations": {"A B": "10.77.0.5"}}, "neither a MAC address nor a port"),
        ({"reservations": {"a": "10.77.0.5", "b": "10.77.0.5"}}, "twice"),
        ({"reservations": {"a": 5}}, "write an IPv4 address"),
        ({"routes": ["192.168.1.0/24"]}, "write routes as"),
        ({"routes": ["192.168.1.1/24 via 10.77.0.9"]}, "write routes as"),
        ({"routes": "192.168.1.0/24 via 10.77.0.9"}, "write a list"),
        ({"dns": ["fd00::1"]}, "write an IPv4 address"),
        ({"dns": ["10.77.0.1"] * 9}, "at most 8"),
        ({"domain": "a..b"}, "no domain"),
        ({"lease_time": "1m"}, "at least 120s"),
        ({"port_limit": 0}, "1 to 4096"),
        ({"mtu": 68}, "576 to 9000"),
        ({"enabled": "perhaps"}, "on or off"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(said, part):
    with pytest.raises(ConfigError) as caught:
        dhcp_settings({"dhcp": said}, "file: ")
    assert part in str(caught.value)
    assert "file: dhcp" in str(caught.value)


def test_no_table():
    with pytest.raises(ConfigError, match=r"write \[dhcp\]"):
        dhcp_settings({"dhcp": 1}, "")
    assert not dhcp_settings({}, "").enabled


@pytest.mark.parametrize(
    "said",
    [
        {"range": "10.77.1.5-10.77.1.9"},
        {"range": "10.77.0.1-10.77.0.9"},
        {"range": "10.77.0.200-10.77.0.255"},
        {"reservations": {"pc1": "10.77.0.1"}},
    ],
)
def test_what_does_not_fit_the_subnet(said):
    with pytest.raises(ConfigError, match=rf"dhcp\.{next(iter(said))}: 10.77.* cannot be given"):
        DhcpSettings(**said).pool(SUBNET)
