"""A switch with several addresses, and members whose firewall lets in answers alone: an answer
leaves from the address that was asked, or it never arrives.
"""

import pytest

from tests.netns.tools import ipv4, reach
from vswitch.devices import netlink
from vswitch.lab.lan import UNDERLAY

SECOND, STABLE, PREFERRED = "192.0.2.2", "[2001:db8::1]", "[2001:db8::2]"

FIREWALL = """
table inet home {
  chain in {
    type filter hook input priority 0; policy drop;
    iifname != "eth0" accept
    meta l4proto ipv6-icmp accept
    ct state established,related accept
  }
}
"""


def shut(host):
    """As every home router: nothing comes in that was not asked for."""
    host.run(["nft", "-f", "-"], input=FIREWALL)


@pytest.mark.netns("nft", "ip", "ping")
def test_members_of_each_address_of_the_switch_connect(empty_lan):
    lan = empty_lan
    lan.switch.call(netlink.add_address, UNDERLAY, f"{SECOND}/24")
    for address in (STABLE, PREFERRED):
        lan.switch.run(["ip", "addr", "add", f"{address[1:-1]}/64", "dev", UNDERLAY, "nodad"])
    lan.serve()
    for number, (name, address) in enumerate(
        [("pc1", SECOND), ("pc2", STABLE), ("pc3", PREFERRED)], 11
    ):
        host = lan.host(name)
        host.run(["ip", "addr", "add", f"2001:db8::{number}/64", "dev", UNDERLAY, "nodad"])
        shut(host)
        lan.join(name, invite=lan.invite(name, "--public", address))
    lan.wait_connected("pc1", "pc2", "pc3")
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    reach(lan.members["pc3"], ipv4(lan, "pc1"))
