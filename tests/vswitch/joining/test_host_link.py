"""A host's side of a membership, with connections that the test makes and ends."""

from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from transport import ChannelBroken
from transport.session.events import Ended
from vswitch.config.options import JoinConfig
from vswitch.errors import BadRecord, VswitchError
from vswitch.foreign.streams import ConnectionEnded
from vswitch.joining.host_link import HostLink
from vswitch.members.protocol import Welcome
from vswitch.testing import FakeDevice, FakeInterface, ethernet

WELCOME = Welcome("pc1", 1, "10.77.0.2/24")
FRAME = ethernet(b"\xff" * 6, b"\x02\0\0\0\0\x0a", 0x88B5, bytes(46))
ENDS = [
    ChannelBroken(Ended(4, "silence", by_peer=False)),
    ConnectionEnded("closed"),
    BadRecord("garbage"),
]


class Connection(FakeDevice):
    def __init__(self):
        super().__init__()
        self.dropped = Counter()


@pytest.fixture
def interface():
    return FakeInterface()


@pytest.fixture
def link(interface, tmp_path):
    return HostLink(JoinConfig(name="pc1", state=tmp_path), "switch.example:7450", interface)


async def carried(link, device, *jobs):
    """What a connection ended with."""
    with pytest.raises(Exception) as caught:
        await link.carry(device, *jobs)
    return caught.value


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
async def test_the_end_of_a_connection_is_raised_as_it_is(link, end):
    device = Connection()
    device.fail(end)
    assert await carried(link, device) is end


@pytest.mark.parametrize("end", ENDS, ids=lambda end: type(end).__name__)
async def test_the_end_of_a_connection_goes_before_that_of_the_interface(link, interface, end):
    device = Connection()

    async def job():  # both directions end in one turn
        await wait_all_tasks_blocked()
        interface.fail(trio.BrokenResourceError("gone, too"))
        device.fail(end)

    assert await carried(link, device, job) is end


async def test_an_interface_that_ends_has_to_be_made_anew(link, interface):
    interface.fail(OSError("the TAP is gone"))
    error = await carried(link, Connection())
    assert type(error) is VswitchError
    assert str(error) == "the TAP is gone; start join again to make it anew"


async def test_what_a_job_raises_ends_the_connection(link):
    async def job():
        raise RuntimeError("no more")

    assert str(await carried(link, Connection(), job)) == "no more"


async def test_frames_and_drops_are_counted_through_all_connections(link, interface):
    for number in (1, 2):
        device = Connection()
        device.dropped["too_long"] = number
        link.connected(device, WELCOME)
        assert (await link.status({}))["state"] == "up"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.carry, device)
            interface.feed(FRAME)
            device.feed(FRAME, FRAME)
            await wait_all_tasks_blocked()
            assert device.take() == [FRAME]
            assert (await link.status({}))["drops"] == {"too_long": number * (number + 1) // 2}
            nursery.cancel_scope.cancel()
    status = await link.status({})
    assert (status["state"], status["drops"]) == ("connecting", {"too_long": 3})
    assert (status["tx_frames"], status["rx_frames"]) == (2, 4)


async def test_each_reason_is_logged_once_and_since_is_when_the_state_began(
    link, caplog, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr("vswitch.clocks.boot_time", lambda: now)
    link.connected(Connection(), WELCOME)
    link.lost("no route")
    since = (await link.status({}))["since"]
    for reason in ("no route", "no answer", "no answer"):
        now += 10
        link.lost(reason)
    status = await link.status({})
    assert (status["since"], status["error"]) == (since, "no answer")
    assert (status["attempts"], caplog.text.count("disconnected")) == (4, 2)
    for _ in range(16):
        link.lost("no answer")
    assert caplog.text.count("disconnected") == 3  # at the tenth once more
    assert "attempts=10 effect=" in caplog.text
    link.connected(Connection(), WELCOME)
    status = await link.status({})
    assert (status["error"], status["attempts"]) == (None, 0)


async def test_who_never_was_connected_is_told_so(link, caplog):
    link.lost("no answer")
    assert "not-connected" in caplog.text
    assert 'reason="no answer" attempts=1 effect="trying again"' in caplog.text
    assert "disconnected" not in caplog.text
