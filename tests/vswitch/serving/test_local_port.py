"""`serve --local-port`, and what a member with `--bridge` says; the kernel is the test."""

import os
from functools import partial

import pytest
import trio

from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.serve import serve_foreign
from vswitch.serving.local_port import serve_local_port
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeInterface, ethernet

A = b"\x02\x00\x00\x00\x00\x0a"
FRAME = ethernet(b"\xff" * 6, A, 0x88B5, bytes(46))


async def test_the_host_of_the_switch_is_a_port(tmp_path):
    config = ServeConfig(state=tmp_path, subnet="10.9.0.0/24", dev="vsw7", mtu=1400)
    host = FakeInterface(superframes=True)
    wanted = []

    def opened(tap):
        wanted.append(tap)
        return host.open(tap)

    async with open_switch(mtu=1400) as switch, trio.open_nursery() as nursery:
        await nursery.start(partial(serve_local_port, switch, config, open_interface=opened))
        (tap,) = wanted
        assert (tap.name, tap.address, tap.mtu) == ("vsw7", "10.9.0.1/24", 1400)
        (port,) = switch.ports
        assert (port.name, port.bridge) == ("local", False)
        async with switch.open_port("bot") as bot:
            host.feed(FRAME)
            assert await bot.receive_frame() == FRAME
            await bot.send(FRAME)
            with trio.fail_after(5):
                while not host.written:  # noqa: ASYNC110 (the device sets no event)
                    await trio.sleep(0.005)
        # Its end is that of its port alone.
        host.fail(trio.BrokenResourceError("deleted"))
        with trio.fail_after(5):
            await port.wait_detached()
        async with switch.open_port("bot"):
            assert len(switch.ports) == 1


async def test_a_member_says_that_it_is_a_bridge(site, monkeypatch):
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def in_bridge(tap, target):
        assert (tap, target) == ("vsw0", "br0")
        yield None

    monkeypatch.setattr("vswitch.devices.bridge.in_bridge", in_bridge)
    async with (
        site.serving() as running,
        site.joined("pc1", running, bridge="br0") as bridge,
        site.joined("pc2", running),
    ):
        assert {port.name: port.bridge for port in running.switch.ports} == {
            "pc1": True,
            "pc2": False,
        }
        assert bridge.welcome.address is None
        assert bridge.interface.address is None


async def test_an_address_and_a_bridge(site):
    error = await site.failing("pc1", bridge="br0", address="10.77.0.9/24")
    assert isinstance(error, ConfigError)
    error = await site.failing("pc1", bridge="br0", address="10.77.0.9/24", via="udp://h:1")
    assert isinstance(error, ConfigError)


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["udp", "tcp", "vxlan", "qemu-stream", "qemu-dgram"])
async def test_cancelled_whenever_it_leaves_nothing(tmp_path, kind):
    more = {"remote": "127.0.0.1:9", "vni": 1} if kind == "vxlan" else {}
    listen = f"unix:{tmp_path}/s" if kind.startswith("qemu") else "127.0.0.1:0"
    settings = ForeignSettings(kind=kind, name="x", listen=listen, **more)
    before = descriptors()
    for turns in range(12):
        async with open_switch() as switch, trio.open_nursery() as nursery:
            nursery.start_soon(serve_foreign, switch, [settings])
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert not switch.ports
    assert descriptors() == before
    assert not (tmp_path / "s").exists()


async def test_a_bridge_of_serve_is_that_of_its_local_port(site):
    with pytest.raises(ConfigError, match=r"give serve\.local_port \(--local-port\), too"):
        async with site.serving(bridge="br0"):
            pass
