"""A wire that drops UDP, and passes it again: a member comes over HTTPS and goes back, unharmed."""

import pytest

from vswitch.lab import Lab
from vswitch.lab.lan import Lan
from vswitch.lab.wait import wait_until

DROP = "table inet t { chain c { type filter hook input priority 0; meta l4proto udp drop\n}\n}\n"
PATIENCE = 90  # seconds: far beyond what a change takes


def drop_udp(lan, dropped):
    """What comes to the switch, silently."""
    if dropped:
        lan.switch.run(["nft", "-f", "-"], input=DROP)
    else:
        lan.switch.run(["nft", "delete", "table", "inet", "t"])


def wait_for_path(lan, start):
    def there():
        port = lan.port("pc1")
        return port is not None and port["via"].startswith(start)

    wait_until(there, f"path {start}", timeout=PATIENCE)


@pytest.fixture
def lan():
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--https", ":443")
        yield lan


@pytest.mark.netns("nft", "ping")
def test_joined_without_udp_back_on_it_and_over_https_again(lan):
    drop_udp(lan, True)
    lan.join("pc1", invite=lan.invite("pc1"))
    lan.wait_connected("pc1")
    wait_for_path(lan, "https:")
    drop_udp(lan, False)
    wait_for_path(lan, "udp:")
    lan.join("pc2")
    address = lan.wait_connected("pc1", "pc2")[1]["address"].partition("/")[0]
    drop_udp(lan, True)
    # Across the change: nothing is lost, however long it takes.
    ping = ["ping", "-c", "100", "-i", "0.1", "-W", "60", address]
    said = lan.members["pc1"].run(ping, timeout=PATIENCE).stdout
    assert "100 received" in said
    wait_for_path(lan, "https:")
