"""Which wishes about routes exclude each other, and what is on the way to a switch."""

from types import SimpleNamespace

import pytest
import trio

from vswitch.addresses import HostPort
from vswitch.config.options import JoinConfig
from vswitch.errors import ConfigError
from vswitch.joining.member import join, places_beside
from vswitch.web.client import Proxy


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        ({"bridge": "br0", "advertise": "exit"}, "--bridge has no routes"),
        ({"bridge": "br0", "exit_node": "gw"}, "--bridge has no routes"),
        ({"exit_node": "gw", "advertise": "exit"}, "the way out cannot be another's"),
        ({"exit_node": "pc1"}, "that is this member itself"),
        ({"via": "udp://192.0.2.1:9", "advertise": "exit"}, "not with --via"),
        ({"via": "udp://192.0.2.1:9", "exit_node": "gw"}, "not with --via"),
    ],
)
def test_wishes_that_exclude_each_other(wishes, why, tmp_path):
    config = JoinConfig(name="pc1", state=tmp_path, **wishes)
    with pytest.raises(ConfigError, match=why):
        trio.run(join, config)


def test_what_is_on_the_way_over_https():
    profile = SimpleNamespace(https=("https://switch.example/lan", "https://[2001:db8::1]:8443"))
    assert places_beside(profile, lambda url: None) == [
        HostPort("switch.example", 443),
        HostPort("2001:db8::1", 8443),
    ]
    proxy = Proxy("proxy.example", 3128, None)
    assert places_beside(profile, lambda url: proxy) == [HostPort("proxy.example", 3128)] * 2
