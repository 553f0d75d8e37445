"""A switch that means harm: it gets a member's LAN, not its host, its process or its disk."""

import contextlib
from ipaddress import ip_address, ip_network

import attrs
import pytest
import trio

from transport import ChannelBroken
from vswitch.devices.host_interface import HostFacts
from vswitch.errors import NotReachable, PrivilegeError, VswitchError
from vswitch.joining import reach
from vswitch.joining.host_link import LineLimit
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Bye, ByeCode, Notice, Update, Welcome, encode_control

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
HOST = HostFacts(
    addresses=frozenset({ip_address("192.168.1.77")}),
    gateways=frozenset({ip_address("192.168.1.1")}),
    networks=frozenset({ip_network("192.168.1.0/24")}),
    ipv6=True,
)
ROWS = [
    *("9.9.9.9/24", "128.0.0.1/1", "64.0.0.1/2", "2000::1/3", "192.168.1.1/25", "198.51.100.1/32"),
    *("127.0.0.1/8", "224.0.0.5/4", "0.0.0.0/0", "::/0", "::1/128", "10.78.0.2/24"),
]


def says(*messages):
    """A session in which the switch says all that at once, and goes on to listen."""

    async def script(device):
        device.channel.bulk.send_nowait([b"".join(map(encode_control, messages))])
        with contextlib.suppress(ChannelBroken):
            while True:
                await device.wait_readable()
                with contextlib.suppress(trio.WouldBlock):
                    device.read_nowait(64)

    return script


@contextlib.asynccontextmanager
async def joined(stage, script, **options):
    stage.interface.host = HOST
    member = stage.member(**options)
    async with stage.serving(script), trio.open_nursery() as nursery:
        nursery.start_soon(member.run)
        await trio.sleep(5)
        yield member
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("address", ROWS)
@pytest.mark.parametrize(
    "options", [{}, {"address": "none"}, {"address": "10.77.0.9/24"}, {"bridge": "br0"}], ids=repr
)
async def test_an_address_that_is_refused_is_done_without(
    autojump_clock, stage, caplog, address, options
):
    welcome = attrs.evolve(WELCOME, address=address, network="")
    async with joined(stage, says(welcome), **options) as member:
        status = await member.status({})
    assert (status["state"], status["address"], len(stage.sessions)) == ("up", None, 1)
    assert status["refused"]["address"].startswith(f"{address}: ")
    assert stage.interface.history == []
    assert caplog.text.count("offer-refused") == 1


@pytest.mark.parametrize("address", ROWS)
async def test_the_same_in_an_update_leaves_what_was_taken(autojump_clock, stage, address):
    async with joined(stage, says(WELCOME, Update(address=address))) as member:
        status = await member.status({})
    # One that is outside the network of the welcome, too.
    assert status["refused"]["address"].startswith(f"{address}: ")
    assert (status["state"], status["address"]) == ("up", "10.77.0.2/24")
    assert stage.interface.history == [("address", "10.77.0.2/24")]


async def test_an_mtu_that_would_end_ipv6_is_not_taken(autojump_clock, stage):
    small = attrs.evolve(WELCOME, mtu=1279)
    async with joined(stage, says(small, Update(mtu=576))) as member:
        status = await member.status({})
    assert (status["mtu"], list(status["refused"])) == (1500, ["mtu"])
    stage.interface.history.clear()
    async with joined(stage, says(small), mtu=1000):
        assert ("mtu", 1000) in stage.interface.history


@pytest.mark.parametrize("error", [VswitchError("no"), PrivilegeError("IPv6 is off")], ids=repr)
async def test_what_the_kernel_refuses_is_done_without(autojump_clock, stage, error):
    stage.interface.refuse = error
    async with joined(stage, says(WELCOME)) as member:
        status = await member.status({})
    assert status["refused"] == {"address": f"10.77.0.2/24: {error}"}
    assert (status["state"], status["address"]) == ("up", None)


async def test_a_host_that_cannot_be_read_takes_nothing(autojump_clock, stage, monkeypatch):
    async def facts():
        raise VswitchError("cannot read routes")

    monkeypatch.setattr(stage.interface, "facts", facts)
    async with joined(stage, says(attrs.evolve(WELCOME, mtu=1400))) as member:
        status = await member.status({})
    assert set(status["refused"]) == {"address", "mtu"}
    assert (status["state"], stage.interface.history) == ("up", [])


async def test_an_address_goes_when_the_host_comes_to_need_it(autojump_clock, stage):
    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(10)
        device.close(ByeCode.SHUTDOWN, "a moment")

    async with joined(stage, script) as member:
        stage.interface.host = HostFacts(addresses=frozenset({ip_address("10.77.0.77")}))
        await trio.sleep(10)
        status = await member.status({})
    assert "10.77.0.77" in status["refused"]["address"]
    assert status["address"] is None


async def test_an_interface_that_is_gone_ends_the_join(autojump_clock, stage, monkeypatch):
    async def gone(address):
        raise trio.BrokenResourceError("vsw0 is gone")

    monkeypatch.setattr(stage.interface, "set_address", gone)
    async with stage.serving(says(WELCOME)):
        with trio.fail_after(1000), pytest.raises(VswitchError, match="start join again"):
            await stage.member().run()


async def test_a_flood_of_notices_is_a_line_a_second(autojump_clock, stage, caplog):
    caplog.set_level("INFO")

    async def script(device):
        device.send_control(WELCOME)
        for _ in range(40):
            said = [encode_control(Notice("x" * 1000)) for _ in range(4)]
            device.channel.bulk.send_nowait([b"".join(said)])
            await trio.sleep(0.25)
        await trio.sleep(2)
        device.send_control(Notice("the last"))
        await trio.sleep_forever()

    async with joined(stage, script):
        await trio.sleep(20)
    lines = [line for line in caplog.messages if line.startswith("notice ")]
    assert LineLimit.BURST <= len(lines) <= LineLimit.BURST + 12
    missing = [int(line.partition("suppressed=")[2] or 0) for line in lines]
    assert sum(missing) + len(lines) == 40 * 4 + 1
    assert "the last" in lines[-1]


async def test_refusals_are_a_line_a_second(autojump_clock, stage, caplog):
    async def script(device):
        device.send_control(WELCOME)
        for number in range(100):
            device.send_control(Update(address=f"9.9.{number}.9/24", mtu=576 + number))
            await trio.sleep(0.05)
        await trio.sleep_forever()

    async with joined(stage, script):
        await trio.sleep(10)
    assert caplog.text.count("offer-refused") <= LineLimit.BURST + 6


async def test_goodbyes_that_end_nothing_end_nothing(autojump_clock, stage, caplog):
    caplog.set_level("INFO")
    many = [Bye(ByeCode.NORMAL, f"now {number}") for number in range(500)]
    async with joined(stage, says(WELCOME, *many)) as member:
        assert (await member.status({}))["state"] == "up"
    assert len(stage.sessions) == 1
    assert len(caplog.records) < 10


async def test_sessions_that_end_again_and_again_do_not_fill_the_log(autojump_clock, stage, caplog):
    caplog.set_level("INFO")

    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(0.05)
        device.close(ByeCode.SHUTDOWN, f"at {trio.current_time()}")

    async with joined(stage, script):
        await trio.sleep(120)
    assert len(stage.sessions) > 20
    for kind in ("connected", "disconnected"):
        lines = [line for line in caplog.messages if line.startswith(f"{kind} ")]
        assert 20 < len(lines) <= LineLimit.BURST + 126


async def test_a_fault_in_a_session_is_the_end_of_the_session(
    autojump_clock, stage, caplog, monkeypatch
):
    """Whatever raises in it, wherever: the member connects again, less and less often."""

    def broken(self, limit):
        raise OverflowError("int too big to convert")

    monkeypatch.setattr(MemberDevice, "read_nowait", broken)
    monkeypatch.setattr("vswitch.joining.connection.MemberDevice.read_nowait", broken)

    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep_forever()

    async with joined(stage, script) as member:
        await trio.sleep(120)
        status = await member.status({})
    assert 4 <= len(stage.sessions) <= 20
    assert status["error"] == "a fault of vswitch has ended the session: OverflowError"
    assert "session-fault" in caplog.text
    assert "int too big to convert" in caplog.text
    async with stage.serving(script):
        assert isinstance(await stage.run_once(), NotReachable)


async def test_a_fault_in_the_transport_is_the_end_of_the_session(
    autojump_clock, stage, caplog, monkeypatch
):
    real = reach.open_endpoint

    @contextlib.asynccontextmanager
    async def broken(*arguments, **options):
        async def core():
            await trio.sleep(1)
            raise OverflowError("int too big to convert")

        async with real(*arguments, **options) as endpoint, trio.open_nursery() as nursery:
            nursery.start_soon(core)
            yield endpoint

    monkeypatch.setattr(reach, "open_endpoint", broken)
    async with joined(stage, says(WELCOME)):
        await trio.sleep(60)
    assert 3 <= len(stage.sessions) <= 20
    assert "session-fault" in caplog.text
