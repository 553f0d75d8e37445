"""What DHCP clients tell the script, in the words of each, and what the sandbox has then."""

import os

import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.tap import TapConfig
from vswitch.errors import TimedOut, VswitchError
from vswitch.lab import lab as lab_module
from vswitch.namespaces import dhcp_client
from vswitch.namespaces.dhcp_client import SCRIPT, ask_for_lease
from vswitch.namespaces.sandbox import open_sandbox, until_it_ends

DEV = "vsw0"
DHCLIENT = {
    "reason": "BOUND",
    "new_ip_address": "10.9.9.2",
    "new_subnet_mask": "255.255.254.0",
    "new_routers": "10.9.9.1 10.9.9.254",
    "new_domain_name_servers": "10.9.9.53 10.9.9.54",
    "new_domain_name": "lan.example",
}
UDHCPC = {
    "ip": "10.9.9.2",
    "mask": "23",
    "router": "10.9.9.1",
    "dns": "10.9.9.53 10.9.9.54",
    "domain": "lan.example",
}


@pytest.fixture
async def sandbox():
    if not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")
    async with open_sandbox() as sandbox, sandbox.open_interface(TapConfig(name=DEV)):
        yield sandbox


@pytest.mark.netns("ip")
@pytest.mark.parametrize(("words", "said"), [([], DHCLIENT), (["bound"], UDHCPC)])
async def test_lease_is_carried_out(sandbox, words, said):
    environment = {**os.environ, "interface": DEV, **said}
    for _ in range(2):  # the second time it is renewed
        child = sandbox.start(["sh", "-ec", SCRIPT, "script", *words], env=environment)
        assert await until_it_ends(child) == 0
    found = await sandbox.call(netlink.addresses, DEV)
    assert [each for each in found if ":" not in each] == ["10.9.9.2/23"]
    facts = await sandbox.call(netlink.host_facts, "lo")
    assert {str(each) for each in facts.gateways} == {"10.9.9.1"}
    assert await trio.Path(sandbox.directory / "resolv.conf").read_text() == (
        "search lan.example\nnameserver 10.9.9.53\nnameserver 10.9.9.54\n"
    )
    end = [*words, "deconfig"][-1:] if words else []
    gone = {**environment, "reason": "EXPIRE"} if not words else environment
    assert await until_it_ends(sandbox.start(["sh", "-ec", SCRIPT, "script", *end], env=gone)) == 0
    found = await sandbox.call(netlink.addresses, DEV)
    assert [each for each in found if ":" not in each] == []


@pytest.mark.netns
async def test_without_a_client_it_says_which(sandbox, monkeypatch):
    monkeypatch.setattr(dhcp_client, "PATH", "/nowhere")
    with pytest.raises(VswitchError, match="install dhclient"):
        await ask_for_lease(sandbox, DEV)


@pytest.mark.netns
async def test_a_client_that_gives_up_is_quoted(sandbox, monkeypatch, tmp_path):
    client = tmp_path / "dhclient"
    client.write_text("#!/bin/sh\necho 'No DHCPOFFERS received.'; exit 2\n")
    client.chmod(0o755)
    monkeypatch.setattr(dhcp_client, "PATH", str(tmp_path))
    with pytest.raises(TimedOut, match="No DHCPOFFERS received"):
        await ask_for_lease(sandbox, DEV)
