"""Trace and events, from a running switch over the control socket."""

import json
import threading
from ipaddress import IPv4Network

import pytest
import trio

from tests.vswitch.control import switch_api
from vswitch.api.socket import serve_control
from vswitch.errors import ConfigError, NotFound, VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.features.rule_set import read_rules
from vswitch.management.client import open_stream, request
from vswitch.management.handlers import HANDLERS
from vswitch.management.handlers.common import Controlled
from vswitch.services.publish import Publisher
from vswitch.serving.status import totals_of
from vswitch.switch.port import Bound
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


@pytest.fixture
async def look(tmp_path):
    path = tmp_path / "control.sock"
    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch)
        for name in ("pc1", "pc2", "pc3"):
            switch.attach(FakeDevice(), name=name)
        await nursery.start(serve_control, path, switch_api(Controlled(managed, None, None, None)))

        async def ask(verb, **args):
            return await trio.to_thread.run_sync(lambda: request(path, verb, **args))

        yield switch, path, ask
        nursery.cancel_scope.cancel()


async def test_trace_says_where_a_frame_would_go(look):
    switch, _, ask = look
    said = await ask("trace", frame="in=pc1 dst=02:00:00:00:00:0b src=02:00:00:00:00:0a")
    assert [each["name"] for each in said["egress"]] == ["pc2", "pc3"]
    assert said["steps"] == ["02:00:00:00:00:0b: not known, flooded"]
    assert said["frame"].startswith("02:00:00:00:00:0a > 02:00:00:00:00:0b ip")
    switch.ports[1].device.feed(ethernet(A, B, 0x0800))
    await trio.testing.wait_all_tasks_blocked()
    said = await ask("trace", frame="in=1 dst=02:00:00:00:00:0b")
    assert said["egress"] == [{"port": 2, "name": "pc2"}]
    said = await ask("trace", frame="in=pc1 hex=00")
    assert (said["egress"], said["reason"]) == ([], "runt")
    assert totals_of(switch.statistics())["rx_frames"] == 1
    with pytest.raises(NotFound):
        await ask("trace", frame="in=pc9 dst=broadcast")
    with pytest.raises(ConfigError, match="dst=MAC"):
        await ask("trace", frame="in=pc1")


async def test_trace_is_right_under_guards(tmp_path):
    path = tmp_path / "control.sock"
    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch)
        managed.change_switch({"guard": "yes"})
        switch.attach(FakeDevice(), name="pc1", bound=Bound(A, "10.77.0.2"))
        switch.attach(FakeDevice(), name="pc2", bound=Bound(B, "10.77.0.3"))
        await nursery.start(serve_control, path, switch_api(Controlled(managed, None, None, None)))

        async def ask(text):
            said = await trio.to_thread.run_sync(lambda: request(path, "trace", frame=text))
            return [each["name"] for each in said["egress"]] or said["steps"]

        for what in ("", "arp", "ip6", "tcp port=22", "dst-ip=192.0.2.1"):
            assert await ask(f"in=pc1 dst=pc2 {what}") == ["pc2"], what
        assert await ask("in=pc2 dst=10.77.0.2") == ["pc1"]
        assert await ask("in=pc1 dst=pc2 src=02:00:00:00:00:0b") == [
            "source_guard: 02:00:00:00:00:0b is no MAC address of this port"
        ]
        assert await ask("in=pc1 dst=pc2 src-ip=10.77.0.3") == [
            "source_guard: its IP address is none of this port"
        ]
        assert (await ask("in=pc1 dst=pc2 arp src-ip=10.77.0.3"))[0].startswith("arp_check: the s")
        assert (await ask("in=pc1 dst=pc2 sport=67"))[0].startswith("dhcp_guard: only a DHCP")
        broken = (B + A + b"\x08\x00").hex() + "00" * 46
        assert (await ask(f"in=pc1 hex={broken}"))[0].startswith("guard_undetermined: its headers")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("verb", "args", "complaint"),
    [
        ("switch-set", {}, "needs changes"),
        ("port-set", {"name": "pc1"}, "needs the name of a port, and changes"),
        ("port-set", {"changes": {}}, "needs the name of a port, and changes"),
        ("mac-list", {"port": 7}, "port must be text"),
        ("mac-list", {"vlan": "many"}, "VLAN 'many'"),
        ("mac-add", {"mac": "02:00:00:00:00:0a"}, "needs the name of a port"),
        ("mac-del", {"mac": "02"}, "02"),
        ("impair", {"port": "pc1", "loss": "often"}, "loss"),
        ("events", {"since": True}, "the number of an event"),
        ("capture", {}, "name the ports"),
    ],
)
async def test_wrong_arguments_are_refused_with_the_reason(verb, args, complaint):
    async with open_switch() as switch:
        switch.attach(FakeDevice(), name="pc1")
        with pytest.raises(ConfigError, match=complaint):
            await HANDLERS[verb](Controlled(FeatureManager(switch), None, None, None), args)


async def test_a_switch_that_is_no_dhcp_server_says_so(look):
    _, _, ask = look
    for verb in ("leases", "lease-release"):
        with pytest.raises(VswitchError, match=r"\[dhcp\] enabled = true makes it one"):
            await ask(verb)


async def test_events_of_ports_are_listed_and_followed(look):
    switch, path, ask = look
    events = (await ask("events"))["events"]
    assert [(each["kind"], each["port"]) for each in events] == [
        ("port-up", "pc1"),
        ("port-up", "pc2"),
        ("port-up", "pc3"),
    ]
    assert events[0]["number"] == 1
    with pytest.raises(ConfigError):
        await ask("events", since=-1)
    seen = []

    def follow():
        with open_stream(path, "events", follow=True, since=2) as stream:
            data = stream.read()
            while data.count(b"\n") < 2:
                data += stream.read()
            stream.finish()
            while stream.read():
                pass
        seen.extend(json.loads(line) for line in data.splitlines())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, follow)
        await trio.sleep(0.05)
        switch.detach(switch.ports[0])
    assert [(each["kind"], each["port"]) for each in seen] == [
        ("port-up", "pc3"),
        ("port-down", "pc1"),
    ]
    assert seen[1]["reason"] == "unplugged"


async def test_a_lane_that_changes_is_an_event():
    async with open_switch() as switch:
        device = FakeDevice()
        device.lane = "kcp"
        managed = FeatureManager(switch)
        switch.attach(device, name="pc1")
        device.lane = "datagram"
        for feature in managed.features:
            feature.tick(1.0)
            feature.tick(2.0)
        changed = [event for event in switch.events.since() if event.kind == "lane-changed"]
        assert [dict(event.facts) for event in changed] == [{"lane": "datagram", "before": "kcp"}]


async def test_what_is_published_wrongly_is_told(tmp_path):
    path = tmp_path / "control.sock"
    async with open_switch() as switch, trio.open_nursery() as nursery:
        publisher = Publisher(switch, None, None, IPv4Network("10.77.0.0/24"))
        for name, controlled in (
            ("with", Controlled(FeatureManager(switch), None, None, None, publisher)),
            ("without", Controlled(FeatureManager(switch), None, None, None)),
        ):
            await nursery.start(serve_control, path.with_name(name), switch_api(controlled))

        async def ask(verb, name="with", **args):
            return await trio.to_thread.run_sync(
                lambda: request(path.with_name(name), verb, **args)
            )

        assert await ask("published") == {"published": []}
        with pytest.raises(ConfigError, match="publish: to is missing"):
            await ask("publish", rule={"listen": "tcp://:1"})
        with pytest.raises(ConfigError, match="must be an object"):
            await ask("publish", rule=1)
        with pytest.raises(ConfigError, match="publish: unknown option x"):
            await ask("publish", rule={"listen": "tcp://:1", "to": "a:1", "x": 1})
        with pytest.raises(ConfigError, match="unpublish 80: write tcp"):
            await ask("unpublish", listen="80")
        with pytest.raises(NotFound, match="nothing is published at tcp://:80"):
            await ask("unpublish", listen="tcp://:80")
        with pytest.raises(VswitchError, match="cannot publish"):
            await ask("published", "without")
        # Its service has not begun, or has ended.
        with pytest.raises(VswitchError, match="has ended by a fault"):
            await ask("publish", rule={"listen": "tcp://:1", "to": "a:1"})
        nursery.cancel_scope.cancel()


async def test_rules_are_read_beside_the_frames(look, monkeypatch):
    _, _, ask = look
    threads = []

    def read(table, place):
        threads.append(threading.current_thread())
        return read_rules(table, place)

    monkeypatch.setattr("vswitch.management.handlers.rules.read_rules", read)
    rules = {"table": {"list": ["deny pc1 -> pc2"]}, "place": "f.toml: rules"}
    said = await ask("rules-load", rules=rules)
    assert said["rules"] == [{"rule": "deny pc1 -> pc2", "allowed": 0, "denied": 0}]
    assert threads
    assert threading.current_thread() not in threads
