"""Members that leave, return or are revoked while they are taken in, and when they are in."""

import threading
import time
import types

import pytest
import trio
import trio.testing

from transport import Credential, HandshakeRefused, Result
from vswitch.members.protocol import ByeCode, Hello, Welcome, encode_control
from vswitch.registry.registry import Registry
from vswitch.testing import FakeChannel

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")


class Gate:
    """Holds the enrolment of one member in its thread."""

    def __init__(self, monkeypatch):
        self.reached = threading.Event()
        self.open = threading.Event()
        lease = Registry.lease

        def slow(registry, *args):
            if not self.reached.is_set():
                self.reached.set()
                assert self.open.wait(20)
            return lease(registry, *args)

        monkeypatch.setattr(Registry, "lease", slow)

    async def wait(self):
        assert await trio.to_thread.run_sync(self.reached.wait, 20)


async def test_a_member_that_leaves_while_it_is_enrolled_gets_no_port(house, monkeypatch, caplog):
    caplog.set_level("INFO")
    gate = Gate(monkeypatch)
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        await gate.wait()
        guest.channel.close(ByeCode.NORMAL, "changed my mind")
    gate.open.set()
    with trio.fail_after(20):
        while "member-lost" not in caplog.text:  # noqa: ASYNC110 (a thread goes on)
            await trio.sleep(0.002)
    assert house.switch.ports == ()
    assert house.reception.connected == {}


async def test_a_member_that_connects_again_while_it_is_enrolled(house, monkeypatch, caplog):
    caplog.set_level("INFO")
    key = house.member("pc1")
    gate = Gate(monkeypatch)
    async with house.visit(key) as first:
        first.say(HELLO)
        await gate.wait()
        async with house.visit(key, "192.0.2.2") as second:
            assert (await first.end()).code == ByeCode.REPLACED
            second.say(HELLO)
            # The second is welcomed, whatever becomes of the first.
            assert isinstance(await second.hear(), Welcome)
            gate.open.set()
            with trio.fail_after(20):
                while "member-lost" not in caplog.text:  # noqa: ASYNC110 (a thread goes on)
                    await trio.sleep(0.002)
            (connected,) = house.reception.connected.values()
            assert connected.port.attached
            assert house.switch.ports == (connected.port,)


async def test_a_member_that_is_revoked_while_it_is_enrolled_is_refused(house, monkeypatch):
    gate = Gate(monkeypatch)
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        await gate.wait()
        # Its address is not leased yet: the lease itself says no.
        house.registry.revoke("pc1", time.time())
        assert house.reception.check_revoked() == []
        gate.open.set()
        code, reason = await guest.refusal()
        assert code in (ByeCode.UNKNOWN, ByeCode.REVOKED)
        assert reason


async def test_a_member_that_is_revoked_at_the_last_moment(house, monkeypatch):
    lease = Registry.lease

    def revoked_meanwhile(registry, *args):
        address = lease(registry, *args)
        registry.revoke("pc1", time.time())
        return address

    monkeypatch.setattr(Registry, "lease", revoked_meanwhile)
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        code, reason = await guest.refusal()
        assert code is ByeCode.REVOKED
        assert "was revoked" in reason
    assert house.switch.ports == ()


async def test_a_second_session_takes_over_at_once(house, caplog):
    caplog.set_level("INFO")
    key = house.member("pc1")
    async with house.visit(key) as first:
        first.say(HELLO)
        await first.hear()
        (old,) = house.switch.ports
        async with house.visit(key, "192.0.2.2") as second:
            broken = await first.end()
            assert broken.code == ByeCode.REPLACED
            # Before it has said a word: the key is proven, and a dead session is worth nothing.
            with trio.fail_after(20):
                await old.wait_detached()
            second.say(HELLO)
            assert (await second.hear()).port == 1
            assert [connected.port for connected in house.reception.connected.values()] == list(
                house.switch.ports
            )
    await house.plugged(0)
    assert 'member-down member=pc1 port=1 reason="the same key has connected again"' in caplog.text


class Line(FakeChannel):
    """What reception needs of a channel, without a transport that ends one for the other."""

    credential = Credential()
    remote = "192.0.2.1:1"

    def statistics(self):
        return types.SimpleNamespace(suite="none", hybrid=False)


async def test_the_newer_of_two_sessions_stays_also_if_the_transport_lets_both_live(house):
    lines = []
    for number in (1, 2):
        ours, theirs = Line(1200, 64_000), FakeChannel(1200, 64_000)
        ours.join(theirs)
        ours.peer = house.member(f"pc{number}").public if number == 1 else lines[0].peer
        ours.identity = None
        theirs.bulk.send_nowait([encode_control(HELLO)])
        lines.append(ours)
    key = lines[0].peer.raw
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.reception.receive, lines[0])
        await house.plugged(1)
        old = house.reception.connected[key]
        nursery.start_soon(house.reception.receive, lines[1])
        with trio.fail_after(20):
            await old.port.wait_detached()
        await trio.testing.wait_all_tasks_blocked()
        new = house.reception.connected[key]
        assert new.channel is lines[1]
        assert house.switch.ports == (new.port,)
        assert lines[0].closed_with is not None
        assert lines[1].closed_with is None
        nursery.cancel_scope.cancel()
    assert house.reception.connected == {}


async def test_revoked_members_are_unplugged_with_a_reason(house, caplog):
    caplog.set_level("INFO")
    key = house.member("pc1")
    async with house.visit(key) as one, house.visit(house.member("pc2"), "192.0.2.2") as two:
        for guest, name in ((one, "pc1"), (two, "pc2")):
            guest.say(Hello(mtu=1500, mac="02:00:00:00:00:01", name=name))
            await guest.hear()
        assert house.reception.check_revoked() == []
        house.registry.revoke("pc1", time.time())
        assert house.reception.check_revoked() == ["pc1"]
        assert [port.name for port in house.switch.ports] == ["pc2"]
        broken = await one.end()
        assert (broken.code, broken.reason) == (ByeCode.REVOKED, "pc1 was revoked")
        await house.plugged(1)
    assert "member-down member=pc1 port=1 reason=revoked" in caplog.text
    with pytest.raises(HandshakeRefused) as refused:
        async with house.visit(key):
            pass
    assert refused.value.result == Result.REVOKED
