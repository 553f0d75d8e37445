"""Published services between two networks that are both this host's loopback."""

import errno
import logging
import re
import socket
import struct
from contextlib import asynccontextmanager, suppress
from functools import partial
from ipaddress import IPv4Network

import pytest
import trio
import trio.testing

from vswitch.errors import ConfigError, NotFound, VswitchError
from vswitch.proxy.sides import CannotConnect, host_socket
from vswitch.services import publish
from vswitch.services.lan_sockets import Standby
from vswitch.services.proxy_protocol import header
from vswitch.services.publish import Publisher, Whereabouts
from vswitch.services.publish_rules import read_rule
from vswitch.switch.switch import open_switch

SUBNET = IPv4Network("127.0.0.0/8")
DEADLINE = 20  # seconds


def port():
    """One that nobody has now, of TCP and UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]


def two_ports():
    """The first of two in a row."""
    while True:
        where = port()
        with suppress(OSError), socket.create_server(("127.0.0.1", where + 1)):
            return where


class World:
    """A publisher, and a member `pc1` that may be anywhere."""

    def __init__(self, switch):
        self.switch = switch
        self.members = {"pc1": Whereabouts("pc1", "127.0.0.1")}
        self.makes = host_socket
        self.opened = 0
        self.lost = trio.Event()
        self.is_there = False

    def find(self, name):
        return self.members.get(name, Whereabouts("", why="no_name"))

    async def serve_lan(self, *, task_status):
        self.opened += 1
        task_status.started(self.makes)
        self.is_there = True
        try:
            await self.lost.wait()
            raise VswitchError("a planted end")
        finally:
            self.is_there = False

    async def publish(self, listen, to, **said):
        rule = read_rule({"listen": listen, "to": to} | said, "here", SUBNET)
        return await self.publisher.publish(rule)

    def events(self, kind):
        return [dict(each.facts) for each in self.switch.events.since() if each.kind == kind]


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(publish, "FOLLOW", 0.01)
    async with open_switch() as switch, trio.open_nursery() as nursery:
        world = World(switch)
        world.publisher = Publisher(switch, world.serve_lan, world.find, SUBNET)
        await nursery.start(world.publisher.run)
        with trio.fail_after(DEADLINE):
            yield world
        nursery.cancel_scope.cancel()


async def until(condition):
    while not condition():  # noqa: ASYNC110 (sockets set no event)
        await trio.sleep(0.005)


@asynccontextmanager
async def server(handle, host="127.0.0.1"):
    """Whatever it does to a connection; its port."""
    async with trio.open_nursery() as nursery:

        async def run(stream):
            try:
                await handle(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        (listener,) = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, run, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echo(stream):
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def said_by(stream):
    said = b""
    while more := await stream.receive_some():
        said += more
    return said


@asynccontextmanager
async def client(where, host="127.0.0.1"):
    async with await trio.open_tcp_stream(host, where) as stream:
        yield stream


async def is_reset(where):
    """Already while it connects, or after that."""
    with pytest.raises((OSError, trio.BrokenResourceError)):
        async with client(where) as stream:
            await stream.receive_some()


async def test_a_stream_goes_on_to_the_member_and_half_close_is_passed_on(world):
    async with server(echo) as inner:
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        async with client(where) as stream:
            await stream.send_all(b"word")
            assert await stream.receive_some() == b"word"
            assert rule.counts.open == 1
            await stream.send_eof()
            assert await stream.receive_some() == b""
        await until(lambda: not rule.counts.open)
    assert (rule.counts.total, rule.counts.traffic.up, rule.counts.traffic.down) == (1, 4, 4)
    assert not rule.counts.failed
    assert world.events("published") == [{"listen": str(rule.rule.listen), "to": f"pc1:{inner}"}]


async def test_resets_are_passed_on_both_ways(world):
    seen = []

    async def handle(stream):
        data = await stream.receive_some()
        if data == b"now":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            try:
                await stream.receive_some()
            except trio.BrokenResourceError:
                seen.append("reset")

    async with server(handle) as inner:
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        async with client(where) as stream:
            await stream.send_all(b"now")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        async with client(where) as stream:
            await stream.send_all(b"later")
            await until(lambda: rule.counts.traffic.up == 8)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: seen == ["reset"])
        await until(lambda: rule.counts.failed == {"reset": 2})


async def test_a_member_that_is_nowhere_is_a_reset_with_its_reason(world):
    where = port()
    rule = await world.publish(f"tcp://127.0.0.1:{where}", "pc1:9")
    await is_reset(where)  # nobody listens there
    for why in ("away", "no_address", "no_name"):
        world.members["pc1"] = Whereabouts("pc1", why=why)
        await is_reset(where)
    await until(lambda: len(rule.counts.failed) == 4)
    assert rule.counts.failed == dict.fromkeys(("refused", "away", "no_address", "no_name"), 1)
    await until(lambda: rule.toward == world.members["pc1"])
    addresses = [each["address"] for each in world.events("publish-target")]
    assert addresses[0] == "127.0.0.1"
    assert addresses[-1] == "no_name"


async def test_new_connections_follow_the_member_and_old_ones_to_nowhere_are_reset(world):
    async def who(stream):
        await stream.send_all(stream.socket.getsockname()[0].encode())
        await stream.receive_some()

    async with server(who, host="0.0.0.0") as inner:
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        async with client(where) as old:
            assert await old.receive_some() == b"127.0.0.1"
            world.members["pc1"] = Whereabouts("pc1", "127.0.0.9")
            with pytest.raises(trio.BrokenResourceError):
                await old.receive_some()
            async with client(where) as new:
                assert await new.receive_some() == b"127.0.0.9"
                assert rule.counts.failed == {"moved": 1}


async def test_who_is_away_for_long_resets_what_is_open_and_for_short_does_not(world, monkeypatch):
    async with server(echo) as inner:
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        here = world.members["pc1"]
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
            world.members["pc1"] = Whereabouts("pc1", why="away")
            await until(lambda: rule.away)
            world.members["pc1"] = here
            await until(lambda: not rule.away)
            await stream.send_all(b"b")
            assert await stream.receive_some() == b"b"
            monkeypatch.setattr(publish, "GRACE", 0.05)
            world.members["pc1"] = Whereabouts("pc1", why="away")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert rule.counts.failed == {"away": 1}


async def test_the_server_learns_who_asks(world):
    heads = []

    async def handle(stream):
        heads.append(await stream.receive_some(28))
        await stream.send_all(await stream.receive_some())

    async with server(handle) as inner:
        where = port()
        await world.publish(f"tcp://:{where}", f"pc1:{inner}", proxy_protocol=True)
        async with client(where, "127.0.0.7") as stream:
            await stream.send_all(b"word")
            assert await stream.receive_some() == b"word"
            ours = stream.socket.getsockname()
        assert heads == [header(ours, ("127.0.0.7", where))]


async def test_limits_and_lists_reset_at_once_and_the_others_go_on(world):
    async with server(echo) as inner:
        where = port()
        listen, to = f"tcp://127.0.0.1:{where}", f"pc1:{inner}"
        rule = await world.publish(listen, to, max_connections=1)
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
            await is_reset(where)
            await world.publish(listen, to, deny="127.0.0.1/32")
            await is_reset(where)
            await stream.send_all(b"b")
            assert await stream.receive_some() == b"b"
        assert rule.counts.failed == {"full": 1, "denied": 1}


async def test_a_range_of_ports_leads_each_to_its_own(world):
    async with server(partial(echo)) as inner:
        first = inner - 1
        where = two_ports()
        await world.publish(f"tcp://127.0.0.1:{where}-{where + 1}", f"pc1:{first}-{inner}")
        async with client(where + 1) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"


async def test_the_same_rule_keeps_its_listener_and_what_is_open(world):
    async with server(echo) as inner:
        where = port()
        listen = f"tcp://127.0.0.1:{where}"
        rules = [read_rule({"listen": listen, "to": f"pc1:{inner}"}, "here", SUBNET)]
        await world.publisher.apply(rules)
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
            (before,) = world.publisher.rules
            await world.publisher.apply(rules)
            assert world.publisher.rules == (before,)
            await stream.send_all(b"b")
            assert await stream.receive_some() == b"b"
            await world.publisher.apply([])
            assert world.publisher.rules == ()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", where)


async def test_another_target_is_for_what_comes_and_what_is_open_follows_its_own_member(
    world, monkeypatch
):
    async def who(stream):
        await stream.send_all(stream.socket.getsockname()[0].encode())
        await echo(stream)

    monkeypatch.setattr(publish, "GRACE", 0.05)
    world.members["pc2"] = Whereabouts("pc2", "127.0.0.9")
    async with server(who, host="0.0.0.0") as inner:
        where = port()
        listen = f"tcp://127.0.0.1:{where}"
        await world.publish(listen, f"pc1:{inner}")
        async with client(where) as old:
            assert await old.receive_some() == b"127.0.0.1"
            rule = await world.publish(listen, f"pc2:{inner}")
            async with client(where) as new:
                assert await new.receive_some() == b"127.0.0.9"
                await trio.sleep(0.05)  # several looks where they are
                await old.send_all(b"a")
                assert await old.receive_some() == b"a"
                world.members["pc1"] = Whereabouts("pc1", why="away")
                with pytest.raises(trio.BrokenResourceError):
                    await old.receive_some()
                await new.send_all(b"b")
                assert await new.receive_some() == b"b"
        assert rule.counts.failed == {"away": 1}


async def test_who_publishes_while_the_place_is_given_up_waits_for_it(world, monkeypatch):
    serve, may = publish.serve_streams, trio.Event()

    async def slow(*args):
        try:
            await serve(*args)
        finally:
            with trio.move_on_after(2, shield=True):
                await may.wait()

    monkeypatch.setattr(publish, "serve_streams", slow)
    listen = f"tcp://127.0.0.1:{port()}"
    rule = await world.publish(listen, "pc1:9")
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        given_up = trio.CancelScope()

        async def unpublish():
            with given_up:
                await world.publisher.unpublish(rule.rule.listen)

        nursery.start_soon(unpublish)
        await until(lambda: not world.publisher.rules)
        nursery.start_soon(partial(world.publish, listen, "pc1:10"))
        given_up.cancel()  # its client is gone, and the place is not free yet
        await trio.sleep(0.02)
        may.set()
    (now,) = world.publisher.rules
    assert now.rule.to.first == 10


async def test_what_is_applied_says_what_is_live(world):
    live = await world.publish(f"tcp://127.0.0.1:{port()}", "pc1:9")
    await world.publisher.apply([live.rule])
    assert (world.publisher.rules, live.live) == ((live,), False)
    await world.publisher.apply([live.rule], {live.rule.listen})
    assert (world.publisher.rules, live.live) == ((live,), True)
    await world.publisher.unpublish(live.rule.listen)
    with pytest.raises(NotFound, match="nothing is published at tcp://"):
        await world.publisher.unpublish(live.rule.listen)


async def test_places_that_cannot_be_had_are_told_and_leave_nothing(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = taken.getsockname()[1]
        with pytest.raises(VswitchError, match=f"{where} is in use"):
            await world.publish(f"tcp://127.0.0.1:{where}", "pc1:9")
    assert world.publisher.rules == ()
    await world.publish(f"tcp://127.0.0.1:{where}", "pc1:9")
    with pytest.raises(ConfigError, match="takes what comes to"):
        await world.publish(f"tcp://:{where}", "pc1:9")


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
async def test_an_address_that_the_host_does_not_have_is_told_with_a_remedy(world, host):
    where = f"[{host}]" if ":" in host else host
    with pytest.raises(VswitchError, match=re.escape(f"{where}:8080: this host does not have")):
        await world.publish(f"tcp://{where}:8080", "pc1:9")
    assert world.publisher.rules == ()


async def test_a_range_for_which_descriptors_are_missing_leaves_no_listener(world, monkeypatch):
    first, made = two_ports(), []

    async def short(*what):
        if made:
            raise OSError(errno.EMFILE, "a planted shortage")
        made.append(await host_socket(*what))
        return made[0]

    monkeypatch.setattr(publish, "host_socket", short)
    with pytest.raises(VswitchError, match="fewer ports, or raise its limit"):
        await world.publish(f"tcp://127.0.0.1:{first}-{first + 1}", "pc1:9-10")
    assert made[0].fileno() == -1
    assert world.publisher.rules == ()


async def test_a_fault_costs_one_connection(world, caplog):
    async with server(echo) as inner:
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
            found, world.publisher._address = world.publisher._address, None
            await is_reset(where)
            world.publisher._address = found
            await stream.send_all(b"b")
            assert await stream.receive_some() == b"b"
        assert rule.counts.failed == {"fault": 1}
        assert any("proxy-fault" in each.message for each in caplog.records)


async def test_a_fault_of_a_listener_ends_its_rule_alone_until_it_is_said_again(
    world, monkeypatch, caplog
):
    async def faulty(*_):
        raise RuntimeError("a planted fault")

    async with server(echo) as inner:
        fine = await world.publish(f"tcp://127.0.0.1:{port()}", f"pc1:{inner}")
        async with client(fine.rule.listen.first) as stream:  # so that it is served already
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
        monkeypatch.setattr(publish, "serve_streams", faulty)
        where = port()
        rule = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        await until(lambda: rule.ended is not None)
        assert world.switch.faults.latest[-1].reference == rule.ended
        assert fine.ended is None
        monkeypatch.undo()
        again = await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        assert again is not rule
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
    assert "a planted fault" in caplog.text


async def test_a_lan_that_is_lost_is_opened_again_when_it_is_wanted(world, caplog):
    caplog.set_level(logging.ERROR)
    async with server(echo) as inner:
        where = port()
        await world.publish(f"tcp://127.0.0.1:{where}", f"pc1:{inner}")
        lost, world.lost = world.lost, trio.Event()
        lost.set()
        await until(lambda: "publish-lan-lost" in caplog.text)
        async with client(where) as stream:
            await stream.send_all(b"a")
            assert await stream.receive_some() == b"a"
        assert world.opened == 2


async def test_without_a_rule_there_is_no_network_on_the_lan(world, caplog):
    caplog.set_level(logging.ERROR)
    said = {"listen": f"tcp://127.0.0.1:{port()}", "to": "pc1:9"}
    first, other = (
        read_rule({**said, "listen": f"tcp://127.0.0.1:{where}"}, "here", SUBNET)
        for where in (port(), port())
    )
    await world.publisher.apply([first])
    await world.publisher.apply([other])
    assert (world.is_there, world.opened) == (True, 1)  # the same, as there is always a rule
    await world.publisher.apply([])
    assert not world.is_there
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(VswitchError, match="in use"):
            await world.publish(f"tcp://127.0.0.1:{taken.getsockname()[1]}", "pc1:9")
    assert not world.is_there
    await world.publish(f"tcp://127.0.0.1:{port()}", "pc1:9")
    assert world.is_there
    (rule,) = world.publisher.rules
    await world.publisher.unpublish(rule.rule.listen)
    assert not world.is_there
    assert "publish-lan-lost" not in caplog.text


async def test_other_idle_times_hold_for_what_is_open(world):
    async with server(echo) as inner, udp_echo() as sink:
        where = port()
        tcp = {"listen": f"tcp://127.0.0.1:{where}", "to": f"pc1:{inner}"}
        udp = {"listen": f"udp://127.0.0.1:{where}", "to": f"pc1:{sink}"}
        with trio.socket.socket(type=socket.SOCK_DGRAM) as one:
            await one.connect(("127.0.0.1", where))
            for idle in ("1h", "1s"):
                said = {"idle": idle, "udp_idle": idle}
                rules = [read_rule({**each, **said}, "here", SUBNET) for each in (tcp, udp)]
                await world.publisher.apply(rules)
                if idle == "1h":
                    stream = await trio.open_tcp_stream("127.0.0.1", where)
                    await stream.send_all(b"a")
                    assert await stream.receive_some() == b"a"
                    await one.send(b"a")
                    assert await one.recv(99) == b"127.0.0.1 a"
        async with stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await until(lambda: not any(each.counts.open for each in world.publisher.rules))


async def test_a_lan_that_cannot_be_had_is_told_and_later_counted(world):
    async def serve(*, task_status):
        raise VswitchError("namespaces are forbidden here")

    async with trio.open_nursery() as nursery:
        standby = Standby(serve)
        standby.nursery = nursery
        with pytest.raises(VswitchError, match="forbidden"):
            await standby.open()
        with pytest.raises(CannotConnect, match="no_lan"):
            await standby.socket(socket.AF_INET, socket.SOCK_STREAM)


@asynccontextmanager
async def udp_echo(host="127.0.0.1"):
    """A server that says back what came, with its own address in front."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind((host, 0))
        async with trio.open_nursery() as nursery:

            async def run():
                while True:
                    data, source = await sock.recvfrom(65535)
                    await sock.sendto(host.encode() + b" " + data, source)

            nursery.start_soon(run)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def test_datagrams_of_each_client_come_back_and_follow_the_member(world):
    async with udp_echo() as inner:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as other:
            await other.bind(("127.0.0.9", inner))
            where = port()
            rule = await world.publish(f"udp://127.0.0.1:{where}", f"pc1:{inner}")
            with trio.socket.socket(type=socket.SOCK_DGRAM) as one:
                await one.connect(("127.0.0.1", where))
                await one.send(b"a")
                assert await one.recv(99) == b"127.0.0.1 a"
                assert rule.counts.open == 1
                world.members["pc1"] = Whereabouts("pc1", "127.0.0.9")
                await until(lambda: rule.counts.failed == {"moved": 1})
                data = b""
                while data != b"b":  # one that comes before the flow has ended goes with it
                    await one.send(b"b")
                    with trio.move_on_after(0.1):
                        data = await other.recv(99)


async def test_clients_of_udp_are_bounded_and_who_speaks_again_is_not_put_out(world):
    async with udp_echo() as inner:
        where = port()
        rule = await world.publish(f"udp://127.0.0.1:{where}", f"pc1:{inner}", max_connections=1)
        with (
            trio.socket.socket(type=socket.SOCK_DGRAM) as one,
            trio.socket.socket(type=socket.SOCK_DGRAM) as other,
        ):
            for sock in (one, other):
                await sock.connect(("127.0.0.1", where))
            for _ in range(2):
                await one.send(b"a")
                assert await one.recv(99) == b"127.0.0.1 a"
            await other.send(b"b")
            await until(lambda: rule.counts.drops == {"full": 1})
            await one.send(b"c")
            assert await one.recv(99) == b"127.0.0.1 c"


async def test_forged_sources_of_udp_keep_nobody_out_on_any_port_of_the_rule(world):
    async with udp_echo() as inner:
        first = two_ports()
        listen, most = f"udp://127.0.0.1:{first}-{first + 1}", 4
        to = f"pc1:{inner - 1}-{inner}"
        rule = await world.publish(listen, to, max_connections=most)
        for number in range(3 * most):  # to the other port
            with trio.socket.socket(type=socket.SOCK_DGRAM) as forged:
                await forged.sendto(b"x", ("127.0.0.1", first))
                await until(lambda n=number: rule.counts.total == n + 1)
        await until(lambda: rule.counts.open == rule.gate.open == most)
        with trio.socket.socket(type=socket.SOCK_DGRAM) as stranger:
            await stranger.sendto(b"a", ("127.0.0.1", first + 1))
            assert await stranger.recv(99) == b"127.0.0.1 a"
        await until(lambda: rule.counts.open == rule.gate.open == most)
        assert rule.counts.failed == {"gave_way": 2 * most + 1}
        assert not set(rule.counts.drops) - {"refused"}
        await world.publisher.unpublish(rule.rule.listen)
        assert rule.gate.open == rule.counts.open == len(rule.limits.unproven) == 0


async def test_what_has_ended_publishes_nothing_and_says_so(world):
    await world.publish(f"tcp://127.0.0.1:{port()}", "pc1:9")
    other = Publisher(world.switch, world.serve_lan, None, SUBNET)
    rule = read_rule({"listen": f"tcp://127.0.0.1:{port()}", "to": "pc1:9"}, "here", SUBNET)
    with pytest.RaisesGroup(TypeError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(other.run)
            with pytest.raises(TypeError):  # whom it asks is planted
                await other.publish(rule)
            await trio.sleep_forever()
    assert other.rules == ()
    with pytest.raises(VswitchError, match="has ended by a fault"):
        await other.publish(rule)
    assert len(world.publisher.rules) == 1
