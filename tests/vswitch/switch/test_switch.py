import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.errors import BadRecord, RefusedError
from vswitch.frames.records import frame_record
from vswitch.logs import LineFormatter
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Notice
from vswitch.switch.counters import DropReason
from vswitch.switch.switch import open_switch
from vswitch.testing import (
    FakeDevice,
    arp_reply,
    arp_request,
    ethernet,
    fake_channel_pair,
    icmp_echo,
    open_lan,
)

A = bytes.fromhex("02000000000a")
B = bytes.fromhex("02000000000b")
ALL = b"\xff" * 6


def frame(destination, source, number=0, size=46):
    return ethernet(destination, source, 0x0800, number.to_bytes(4, "big") + bytes(size))


def balance(switch):
    """Frames in and copies, less frames out, drops and what waits; 0 when all are accounted for."""
    statistics = switch.statistics()
    totals = statistics.totals
    return (
        totals.rx_frames
        + totals.flood_copies
        - totals.tx_frames
        - totals.dropped
        - statistics.queued_frames
    )


async def test_two_hosts_resolve_and_ping_each_other():
    async with open_lan(3) as lan:
        a, b, c = lan.hosts
        request = arp_request(a.mac, a.ip, b.ip)
        await a.send(request)
        assert await b.receive_frame() == request
        assert await c.receive_frame() == request
        reply = arp_reply(b.mac, b.ip, a.mac, a.ip)
        await b.send(reply)
        assert await a.receive_frame() == reply
        echo = icmp_echo(a.mac, a.ip, b.mac, b.ip, data=b"ping")
        await a.send(echo)
        assert await b.receive_frame() == echo
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            c.port.receive_nowait()
        assert {(entry.port, entry.mac) for entry in lan.switch.fdb_entries()} == {
            (1, "02:00:00:00:00:01"),
            (2, "02:00:00:00:00:02"),
        }
        assert balance(lan.switch) == 0


async def test_ingress_writes_through_before_it_returns():
    async with open_switch() as switch:
        one, two = FakeDevice(), FakeDevice()
        port = switch.attach(one, name="one")
        switch.attach(two, name="two")
        switch.ingress(port, [frame_record(frame(B, A))])
        assert two.take() == [frame(B, A)]


async def test_frames_and_bytes_that_come_in_are_counted():
    async with open_switch() as switch:
        port = switch.attach(FakeDevice(), name="one")
        switch.ingress(port, [frame_record(frame(B, A)), frame_record(b"runt")])
        switch.ingress(port, [])
        assert (port.counters.rx_frames, port.counters.rx_bytes) == (2, 64 + 4)


async def test_ports_have_the_lowest_free_number():
    async with open_switch() as switch:
        ports = [switch.attach(FakeDevice(), name=f"p{n}") for n in range(3)]
        assert [port.number for port in ports] == [1, 2, 3]
        switch.detach(ports[1])
        assert not ports[1].attached
        again = switch.attach(FakeDevice(), name="again")
        assert again.number == 2
        assert switch.ports == (ports[0], again, ports[2])
        assert repr(again) == "<Port 2 'again' up>"


async def test_number_of_ports_is_limited():
    async with open_switch(max_ports=2) as switch:
        switch.attach(FakeDevice(), name="a")
        switch.attach(FakeDevice(), name="b")
        extra = FakeDevice()
        with pytest.raises(RefusedError, match="all 2 ports"):
            switch.attach(extra, name="c")
        assert not extra.closed


async def test_a_full_device_gets_the_rest_when_it_is_writable_again():
    async with open_switch() as switch:
        source, slow = FakeDevice(), FakeDevice(capacity=10)
        switch.attach(source, name="source")
        switch.attach(slow, name="slow")
        frames = [frame(B, A, n) for n in range(100)]
        source.feed(*frames)
        await wait_all_tasks_blocked()
        assert len(slow.written) == 10
        assert switch.statistics().queued_frames == 90
        assert balance(switch) == 0
        got = []
        while len(got) < 100:
            got += slow.take(3)
            await wait_all_tasks_blocked()
        assert got == frames
        assert switch.statistics().queued_frames == 0
        assert balance(switch) == 0


async def test_a_slow_port_drops_its_own_frames_only():
    async with open_switch(max_queued_frames=20) as switch:
        source, slow, quick = FakeDevice(), FakeDevice(capacity=10), FakeDevice()
        for device in (source, slow, quick):
            switch.attach(device, name="p")
        frames = [frame(ALL, A, n) for n in range(100)]
        source.feed(*frames)
        await wait_all_tasks_blocked()
        assert quick.take() == frames
        slow_port = switch.statistics().ports[1]
        assert slow_port.queued_frames == 20
        assert slow_port.queued_bytes == 20 * 68
        assert slow_port.counters.drops == {DropReason.QUEUE_FULL: 70}
        assert slow.take() == frames[:10]
        await wait_all_tasks_blocked()
        assert slow.take() == frames[80:90]  # the oldest were dropped
        assert balance(switch) == 0


async def test_a_device_that_fails_takes_down_its_own_port_only(caplog):
    caplog.set_level(logging.INFO)
    async with open_switch() as switch:
        devices = [FakeDevice(f"dev{n}") for n in range(3)]
        told = []
        ports = [switch.attach(d, name=f"pc{d.name[-1]}", on_detach=told.append) for d in devices]
        devices[1].feed(frame(ALL, B))
        await wait_all_tasks_blocked()
        assert devices[0].take() == [frame(ALL, B)]
        error = trio.BrokenResourceError("peer is\ngone")
        devices[1].fail(error)
        await ports[1].wait_detached()
        assert ports[1].error is error
        assert devices[1].closed
        assert told == [ports[1]]
        assert switch.fdb_entries() == []
        devices[0].feed(frame(B, A))
        await wait_all_tasks_blocked()
        assert devices[2].take() == [frame(ALL, B), frame(B, A)]
        assert balance(switch) == 0
    lines = [LineFormatter(stamp=False, colour=False).format(each) for each in caplog.records]
    assert [line for line in lines if "port-" in line] == [
        "INFO port-up port=1 name=pc0",
        "INFO port-up port=2 name=pc1",
        "INFO port-up port=3 name=pc2",
        'INFO port-down port=2 name=pc1 reason="peer is\\ngone" error=BrokenResourceError',
        "INFO port-down port=1 name=pc0 reason=detached",
        "INFO port-down port=3 name=pc2 reason=detached",
    ]


class FailingDevice(FakeDevice):
    """Raises from one method."""

    def __init__(self, method, error):
        super().__init__()
        self.method = method
        self.error = error

    def read_nowait(self, limit):
        if self.method == "read_nowait":
            raise self.error
        return super().read_nowait(limit)

    def write_nowait(self, records):
        if self.method == "write_nowait":
            raise self.error
        return super().write_nowait(records)

    async def wait_readable(self):
        if self.method == "wait_readable":
            raise self.error
        await super().wait_readable()

    async def wait_writable(self):
        if self.method == "wait_writable":
            raise self.error
        await super().wait_writable()


@pytest.mark.parametrize(
    ("error", "is_a_bug"),
    [
        (OSError(5, "input/output error"), False),
        (BadRecord("unknown record flag 0x0000"), False),
        (trio.BusyResourceError("two tasks"), True),
        (ZeroDivisionError("oops"), True),
    ],
)
@pytest.mark.parametrize(
    "method", ["read_nowait", "write_nowait", "wait_readable", "wait_writable"]
)
async def test_any_error_in_any_method_takes_the_port_down(method, error, is_a_bug, caplog):
    async with open_switch() as switch:
        good, other, bad = FakeDevice(), FakeDevice(), FailingDevice(method, error)
        port = switch.attach(bad, name="bad")
        switch.attach(good, name="good")
        switch.attach(other, name="other")
        bad.capacity = 0 if method == "wait_writable" else None
        bad.feed(frame(ALL, B))
        good.feed(frame(ALL, A))
        with trio.fail_after(5):
            await port.wait_detached()
        assert port.error is error
        assert bad.closed
        await wait_all_tasks_blocked()
        assert frame(ALL, A) in other.take()
        assert [p.name for p in switch.ports] == ["good", "other"]
        assert balance(switch) == 0
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (line.exc_info is not None) is is_a_bug
    assert line.levelno == (logging.ERROR if is_a_bug else logging.WARNING)


async def test_frames_that_wait_when_a_port_goes_are_counted():
    async with open_switch() as switch:
        source, stuck = FakeDevice(), FakeDevice(capacity=0)
        switch.attach(source, name="source")
        port = switch.attach(stuck, name="stuck")
        source.feed(*[frame(B, A, n) for n in range(5)])
        await wait_all_tasks_blocked()
        switch.detach(port)
        switch.detach(port)
        totals = switch.statistics().totals
        assert totals.drops == {DropReason.PORT_DETACHED: 5}
        assert balance(switch) == 0
        assert port.error is None


async def test_frames_in_the_hands_of_a_device_that_fails_while_flushing_are_counted():
    async with open_switch() as switch:
        source, stuck = FakeDevice(), FakeDevice(capacity=0)
        switch.attach(source, name="source")
        port = switch.attach(stuck, name="stuck")
        source.feed(*[frame(B, A, n) for n in range(5)])
        await wait_all_tasks_blocked()

        def fail(records):
            raise OSError("unplugged")

        stuck.write_nowait = fail
        stuck.capacity = 10
        stuck.take()
        await port.wait_detached()
        assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 5}
        assert balance(switch) == 0


async def test_a_detached_port_takes_no_frames():
    async with open_switch() as switch:
        port = switch.attach(FakeDevice(), name="a")
        other = FakeDevice()
        switch.attach(other, name="b")
        switch.detach(port)
        switch.ingress(port, [frame_record(frame(ALL, A))])
        assert other.take() == []
        assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 1}
        assert switch.flush_fdb(port=port) == 0
        assert balance(switch) == 0


class CallingBackDevice(FakeDevice):
    """Breaks rule 3: answers from inside its write."""

    call = None

    def write_nowait(self, records):
        self.call()
        return super().write_nowait(records)


async def test_a_device_that_calls_back_from_its_write_goes_down(caplog):
    async with open_switch() as switch:
        source, other, bad = FakeDevice(), FakeDevice(), CallingBackDevice()
        port = switch.attach(bad, name="bad")
        switch.attach(source, name="source")
        switch.attach(other, name="other")
        bad.call = lambda: switch.ingress(port, [frame_record(frame(ALL, B))])
        source.feed(frame(ALL, A))
        await port.wait_detached()
        assert isinstance(port.error, RuntimeError)
        assert other.take() == [frame(ALL, A)]
        source.feed(frame(ALL, A, 1))
        await wait_all_tasks_blocked()
        assert other.take() == [frame(ALL, A, 1)]
        assert balance(switch) == 0


async def test_a_listener_may_attach_again_in_the_middle_of_a_flood():
    async with open_switch() as switch:
        source, bad, other, fresh = FakeDevice(), FakeDevice(), FakeDevice(), FakeDevice()
        switch.attach(source, name="source")
        port = switch.attach(
            bad, name="bad", on_detach=lambda port: switch.attach(fresh, name="fresh")
        )
        switch.attach(other, name="other")
        bad.write_nowait = lambda records: 1 // 0
        source.feed(frame(ALL, A))
        await port.wait_detached()
        assert [p.name for p in switch.ports] == ["source", "fresh", "other"]
        assert fresh.take() == []
        assert other.take() == [frame(ALL, A)]
        assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 1}
        assert balance(switch) == 0


async def test_a_listener_may_detach_a_port_that_the_flood_has_yet_to_reach():
    async with open_switch() as switch:
        source, bad, other = FakeDevice(), FakeDevice(), FakeDevice()
        switch.attach(source, name="source")
        switch.attach(bad, name="bad", on_detach=lambda port: switch.detach(last))
        last = switch.attach(other, name="last")
        bad.write_nowait = lambda records: 1 // 0
        source.feed(frame(ALL, A))
        await last.wait_detached()
        assert other.take() == []
        assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 2}
        assert balance(switch) == 0


async def test_close_and_listener_that_fail_are_logged_and_no_more(caplog):
    def fail(*args):
        raise ValueError("no")

    async with open_switch() as switch:
        device = FakeDevice()
        device.close = fail
        port = switch.attach(device, name="a", on_detach=fail)
        switch.detach(port)
        await port.wait_detached()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["device-close-failed port=1", "detach-listener-failed port=1"]


async def test_the_end_of_the_switch_closes_everything():
    async with open_switch() as switch:
        devices = [FakeDevice() for _ in range(3)]
        ports = [switch.attach(device, name="p") for device in devices]
    assert all(device.closed for device in devices)
    assert not any(port.attached for port in ports)
    assert switch.ports == ()
    with pytest.raises(trio.ClosedResourceError):
        switch.attach(FakeDevice(), name="late")


async def test_cancellation_leaves_nothing():
    devices = [FakeDevice() for _ in range(3)]
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        async with open_switch() as switch:
            for device in devices:
                switch.attach(device, name="p")
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert all(device.closed for device in devices)
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_an_exception_of_the_body_comes_out_as_it_is():
    error = ValueError("body")
    with pytest.raises(ValueError, match="body") as caught:
        async with open_switch():
            raise error
    assert caught.value is error


async def test_attaching_and_detaching_leaves_no_task():
    async with open_switch() as switch:
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(100):
            port = switch.attach(FakeDevice(), name="p")
            await wait_all_tasks_blocked()
            switch.detach(port)
        switch.detach(switch.attach(FakeDevice(), name="never started"))
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_stations_age_out(autojump_clock):
    async with open_switch(ageing_time=300) as switch:
        device = FakeDevice()
        port = switch.attach(device, name="p")
        device.feed(frame(ALL, A))
        await wait_all_tasks_blocked()
        assert len(switch.fdb_entries()) == 1
        await trio.sleep(299)
        assert len(switch.fdb_entries()) == 1
        await trio.sleep(12)
        assert switch.fdb_entries() == []
        assert switch.statistics().fdb.expired == 1
        device.feed(frame(ALL, A))
        await wait_all_tasks_blocked()
        assert switch.flush_fdb(port=port) == 1


async def test_open_port_forwards_what_was_sent_before_its_end():
    async with open_switch() as switch:
        device = FakeDevice()
        switch.attach(device, name="other")
        frames = [frame(ALL, A, n) for n in range(10)]
        with trio.CancelScope() as scope:
            async with switch.open_port("bot") as port:
                for each in frames:
                    port.send_nowait(each)
                scope.cancel()
                await trio.sleep_forever()
        assert device.take() == frames
        assert [p.name for p in switch.ports] == ["other"]
        with pytest.raises(trio.ClosedResourceError):
            await port.receive()


async def test_open_port_outlives_its_detachment():
    async with open_switch() as switch:
        async with switch.open_port("bot") as port:
            switch.detach(switch.ports[0])
            with pytest.raises(trio.BrokenResourceError):
                await port.receive()
        assert switch.ports == ()


async def test_members_over_channels_and_control_that_has_to_wait():
    async with open_switch() as switch:
        ours, theirs = fake_channel_pair(window=100)
        member = MemberDevice(ours, name="pc1")
        port = switch.attach(member, name="pc1")
        member.on_blocked = port.flush_soon
        source = FakeDevice()
        switch.attach(source, name="source")
        source.feed(frame(ALL, B, size=200))
        await wait_all_tasks_blocked()
        member.send_control(Notice("patience"))  # no credit left, and no frame waits
        far = MemberDevice(theirs, name="far")
        heard = []
        far.on_control = heard.append
        assert far.read_nowait(64) == [frame_record(frame(ALL, B, size=200))]
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            far.read_nowait(64)
        assert heard == [Notice("patience")]
        theirs.bulk.send_nowait([b"junk"])
        await port.wait_detached()
        assert isinstance(port.error, BadRecord)
        assert balance(switch) == 0
