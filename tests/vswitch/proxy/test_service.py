"""The whole proxy between two networks that are both this host's loopback."""

import errno
import os
import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf

import pytest
import trio

from vswitch.config.places import Place, parse_forward
from vswitch.errors import VswitchError
from vswitch.proxy import names, socks
from vswitch.proxy.counts import Counts, Limit
from vswitch.proxy.listeners import Limits, serve_datagrams
from vswitch.proxy.names import LanNames, no_dns
from vswitch.proxy.service import Rules, open_proxy
from vswitch.proxy.sides import Side, host_names, host_socket

GREETING = b"\5\1\0"
STREAMS = []  # of clients, which end with the proxy


def limits(connections=10, associations=10, idle=inf, udp_idle=inf):
    return Limits(Limit(connections), Limit(associations), idle, udp_idle)


async def members():
    await trio.lowlevel.checkpoint()
    return {"pc1": "127.0.0.1"}


@asynccontextmanager
async def serving(rules, limits=None, host=None, lan=None):
    """A proxy that runs; its status by listener."""
    host = host or Side(host_socket, host_names)
    lan = lan or Side(host_socket, LanNames(members, no_dns).lookup)
    try:
        async with open_proxy(rules, limits or globals()["limits"](), host, lan) as proxy:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy.run)
                yield proxy
                nursery.cancel_scope.cancel()
    finally:
        while STREAMS:
            await trio.aclose_forcefully(STREAMS.pop())


def address(status):
    host, _, port = status.listen.removeprefix("udp:").rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


async def dialled(status):
    STREAMS.append(await trio.open_tcp_stream(*address(status)))
    return STREAMS[-1]


async def is_reset(status):
    """Already while it connects, or after that."""
    with pytest.raises((OSError, trio.BrokenResourceError)):
        await (await dialled(status)).receive_some()


async def until(condition):
    while True:
        if condition():
            return
        await trio.sleep(0.01)


@asynccontextmanager
async def echo():
    """A server that says everything back, and ends when the client does; its port."""
    async with trio.open_nursery() as nursery:

        async def handle(stream):
            with suppress(trio.BrokenResourceError):  # the proxy has ended before the client
                async for data in stream:
                    await stream.send_all(data)
                await stream.send_eof()

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def udp_echo():
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:

            async def run():
                while True:
                    data, source = await sock.recvfrom(65535)
                    await sock.sendto(data, source)

            nursery.start_soon(run)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def exactly(stream, count):
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        assert more, f"ended after {data!r}"
        data += more
    return data


def named(host, port):
    return b"\3" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big")


async def test_forward_to_a_member_by_name():
    async with echo() as port, serving(Rules(forward=[parse_forward(f"0=PC1.:{port}")])) as proxy:
        stream = await dialled(proxy.status()[0])
        await stream.send_all(b"word")
        assert await exactly(stream, 4) == b"word"
        assert proxy.status()[0].open == 1
        await stream.send_eof()
        assert await stream.receive_some() == b""
        (status,) = proxy.status()
    assert (status.kind, status.total, status.up_bytes, status.down_bytes) == ("forward", 1, 4, 4)
    assert status.failed == {}


async def test_unix_sockets_on_both_ends(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    rules = Rules(forward=[parse_forward(f"{here}={there}")])
    with trio.socket.socket(socket.AF_UNIX) as server:
        await server.bind(str(there))
        server.listen()
        async with serving(rules):
            assert here.stat().st_mode & 0o777 == 0o600
            stream = await trio.open_unix_socket(here)
            STREAMS.append(stream)
            await stream.send_all(b"word")
            served, _ = await server.accept()
            with served:
                assert await served.recv(9) == b"word"
    assert not here.exists()


async def test_left_over_socket_is_replaced_and_one_in_use_is_not(tmp_path):
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    rules = Rules(forward=[parse_forward(f"{path}=pc1:9")])
    async with serving(rules):
        with pytest.raises(VswitchError, match="in use by another program"):
            async with serving(rules):
                pass
        assert path.exists()


@pytest.mark.parametrize("kind", ["", "udp:"])
async def test_address_in_use_is_told(kind):
    sort = socket.SOCK_DGRAM if kind else socket.SOCK_STREAM
    with socket.socket(type=sort) as taken:
        taken.bind(("127.0.0.1", 0))
        if not kind:
            taken.listen()
        port = taken.getsockname()[1]
        rule = parse_forward(f"{kind}{port}=pc1:9")
        with pytest.raises(VswitchError, match=f"{port} is in use") as error:
            async with serving(Rules(forward=[rule])):
                pass
    assert error.value.exit_code == 1


async def test_what_nobody_listens_at_is_reset_and_counted():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        rules = Rules(forward=[parse_forward(f"0={name}:{port}") for name in ("pc1", "nobody")])
        async with serving(rules) as proxy:
            for status in proxy.status():
                await is_reset(status)
            expected = [{"refused": 1}, {"no_name": 1}]
            await until(lambda: [each.failed for each in proxy.status()] == expected)


async def test_one_connection_too_many_is_reset_and_the_others_go_on():
    rules = limits(connections=1)
    async with (
        echo() as port,
        serving(Rules(forward=[parse_forward(f"0=pc1:{port}")]), rules) as proxy,
    ):
        (status,) = proxy.status()
        first = await dialled(status)
        await first.send_all(b"a")
        await exactly(first, 1)
        await is_reset(status)
        await first.send_all(b"b")
        assert await exactly(first, 1) == b"b"
        assert proxy.status()[0].failed == {"full": 1}
        await first.send_eof()
        assert await first.receive_some() == b""
        await until(lambda: not rules.connections.open)
        third = await dialled(status)
        await third.send_all(b"c")
        assert await exactly(third, 1) == b"c"


async def test_fault_ends_one_connection_and_is_logged(caplog):
    fine = Side(host_socket, host_names)

    async def faulty(name):
        raise RuntimeError("a planted fault")

    rules = Rules(forward=[parse_forward("0=pc1:9")])
    async with serving(rules, host=fine, lan=Side(host_socket, faulty)) as proxy:
        for _ in range(2):
            await is_reset(proxy.status()[0])
        await until(lambda: proxy.status()[0].failed == {"fault": 2})
    assert "a planted fault" in caplog.text


async def test_lan_that_is_gone_ends_the_proxy():
    async def gone(family, kind, protocol=0):
        raise VswitchError("the sandbox is gone")

    rules = Rules(forward=[parse_forward("0=127.0.0.1:9")])
    with pytest.RaisesGroup(VswitchError, flatten_subgroups=True):
        async with serving(rules, lan=Side(gone, no_dns)) as proxy:
            await dialled(proxy.status()[0])
            await trio.sleep_forever()


async def test_reverse_listens_on_the_lan_at_all_addresses():
    async with echo() as port, serving(Rules(reverse=[parse_forward(f"0=127.0.0.1:{port}")])) as it:
        _, where = address(it.status()[0])
        for host in ("127.0.0.1", "::1"):
            stream = await trio.open_tcp_stream(host, where)
            STREAMS.append(stream)
            await stream.send_all(b"x")
            assert await exactly(stream, 1) == b"x"


async def test_datagrams_of_each_client_come_back_to_it():
    async with (
        udp_echo() as port,
        serving(Rules(forward=[parse_forward(f"udp:0=pc1:{port}")])) as proxy,
    ):
        (status,) = proxy.status()
        clients = [trio.socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
        for number, client in enumerate(clients):
            await client.connect(address(status))
            await client.send(bytes([number]))
        for number, client in enumerate(clients):
            with client:
                assert await client.recv(9) == bytes([number])
        (status,) = proxy.status()
        assert (status.open, status.total, status.up_bytes) == (3, 3, 3)


async def test_udp_clients_are_bounded_and_forgotten_when_silent():
    rules = limits(associations=1, udp_idle=0.05)
    async with (
        udp_echo() as port,
        serving(Rules(forward=[parse_forward(f"udp:0=pc1:{port}")]), rules) as proxy,
    ):
        (status,) = proxy.status()
        rules.associations.enter()
        with trio.socket.socket(type=socket.SOCK_DGRAM) as client:
            await client.connect(address(status))
            await client.send(b"lost")
            await until(lambda: proxy.status()[0].drops == {"full": 1})
            rules.associations.leave()
            await client.send(b"word")
            assert await client.recv(9) == b"word"
            await until(lambda: not rules.associations.open)
            await client.send(b"more")
            assert await client.recv(9) == b"more"
        assert proxy.status()[0].total == 2


async def socks_client(proxy):
    stream = await dialled(proxy.status()[0])
    await stream.send_all(GREETING)
    assert await exactly(stream, 2) == b"\5\0"
    return stream


@pytest.mark.parametrize("host", [b"\1\x7f\0\0\1", b"\3\3pc1", b"\3\x09127.0.0.1"])
async def test_socks_connects_and_passes_on_what_came_early(host):
    async with echo() as port, serving(Rules(socks=[Place()])) as proxy:
        stream = await dialled(proxy.status()[0])
        request = b"\5\1\0" + host + port.to_bytes(2, "big")
        await stream.send_all(GREETING + request + b"early")
        assert await exactly(stream, 2) == b"\5\0"
        assert (await exactly(stream, 10))[:8] == b"\5\0\0\1\x7f\0\0\1"
        assert await exactly(stream, 5) == b"early"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"\5\2\0\1\x7f\0\0\1\0\x50", socks.Reply.COMMAND_NOT_SUPPORTED),
        (b"\5\1\0\1\x7f\0\0\1\0\1", socks.Reply.CONNECTION_REFUSED),
        (b"\5\1\0" + named("nobody", 80), socks.Reply.HOST_UNREACHABLE),
    ],
)
async def test_socks_says_why_not(request_, code):
    async with serving(Rules(socks=[Place()])) as proxy:
        stream = await socks_client(proxy)
        await stream.send_all(request_)
        assert (await exactly(stream, 10))[1] == code
        assert await stream.receive_some() == b""


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\4\1\0\x50\x0a\0\0\1\0", b"\5"])
async def test_who_speaks_no_socks_hears_nothing(said):
    async with serving(Rules(socks=[Place()])) as proxy:
        stream = await dialled(proxy.status()[0])
        await stream.send_all(said)
        await stream.send_eof()
        try:
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass  # what it had sent was not read to the end
        await until(lambda: not proxy.status()[0].open)
        await until(lambda: proxy.status()[0].failed == {"bad_request": 1})


@pytest.mark.parametrize(
    ("said", "right"),
    [(b"\1\2me\4word", True), (b"\1\2me\5wrong", False), (b"\1\3you\0", False)],
)
async def test_socks_users(said, right, monkeypatch):
    monkeypatch.setattr("vswitch.proxy.socks_server.WRONG", 0)
    rules = Rules(socks=[Place()], users={b"me": b"word"})
    async with echo() as port, serving(rules) as proxy:
        stream = await dialled(proxy.status()[0])
        await stream.send_all(b"\5\2\0\2")
        assert await exactly(stream, 2) == b"\5\2"
        await stream.send_all(said)
        answer = await exactly(stream, 2)
        assert (answer == b"\1\0") is right
        if right:
            await stream.send_all(b"\5\1\0" + named("pc1", port))
            assert (await exactly(stream, 10))[1] == 0
        else:
            assert await stream.receive_some() == b""
            await until(lambda: proxy.status()[0].failed == {"not_allowed": 1})


async def test_socks_without_the_way_to_authenticate_is_turned_away():
    async with serving(Rules(socks=[Place()], users={b"me": b"word"})) as proxy:
        stream = await dialled(proxy.status()[0])
        await stream.send_all(GREETING)
        assert await exactly(stream, 2) == b"\5\xff"
        assert await stream.receive_some() == b""


async def associated(stream):
    await stream.send_all(b"\5\3\0\1" + bytes(6))
    answer = await exactly(stream, 10)
    assert answer[:8] == b"\5\0\0\1\x7f\0\0\1"
    return "127.0.0.1", int.from_bytes(answer[8:], "big")


async def test_udp_associate_by_name_and_address_for_its_client_alone():
    async with udp_echo() as port, serving(Rules(socks=[Place()])) as proxy:
        stream = await socks_client(proxy)
        relay = await associated(stream)
        with (
            trio.socket.socket(type=socket.SOCK_DGRAM) as client,
            trio.socket.socket(type=socket.SOCK_DGRAM) as other,
        ):
            from_echo = socks.datagram("127.0.0.1", port, b"word")
            await client.sendto(b"\0\0\0" + named("pc1", port) + b"word", relay)
            assert await client.recv(99) == from_echo
            await client.sendto(from_echo, relay)
            assert await client.recv(99) == from_echo
            await other.sendto(from_echo, relay)
            await client.sendto(b"\0\0\1" + from_echo[3:], relay)
            await client.sendto(b"\0\0\0" + named("nobody", 53) + b"word", relay)
            expected = {"stranger": 1, "bad_datagram": 1, "no_name": 1}
            await until(lambda: proxy.status()[0].drops == expected)
            await stream.aclose()
            await until(lambda: not proxy.status()[0].open)
        with trio.socket.socket(type=socket.SOCK_DGRAM) as again:
            await again.bind(relay)  # the association has gone with its connection


async def test_udp_associations_are_bounded():
    async with serving(Rules(socks=[Place()]), limits(associations=1)) as proxy:
        first = await socks_client(proxy)
        await associated(first)
        second = await socks_client(proxy)
        await second.send_all(b"\5\3\0\1" + bytes(6))
        assert (await exactly(second, 10))[1] == socks.Reply.FAILURE
        await until(lambda: proxy.status()[0].failed == {"full": 1})
        await first.aclose()


async def test_out_of_descriptors_the_listener_stays(monkeypatch):
    """Once accept has failed so, it is tried again."""
    failed = []

    class Short:
        def __init__(self, sock):
            self.sock = sock

        async def accept(self):
            if not failed:
                failed.append(True)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await self.sock.accept()

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.sock.close()

    class ShortSide(Side):
        async def listen(self, place):
            return Short(await super().listen(place))

    rules = Rules(forward=[parse_forward("0=nobody:9")])
    async with serving(rules, host=ShortSide(host_socket, host_names)) as proxy:
        await is_reset(proxy.status()[0])
    assert failed


async def test_shortage_is_told_once_and_costs_nothing_but_what_it_keeps_away(monkeypatch, caplog):
    monkeypatch.setattr("vswitch.proxy.listeners._PAUSE", 0.001)
    missing = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    tries = 0

    async def none_left(*_):
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        raise missing

    monkeypatch.setattr("vswitch.proxy.socks_server.host_socket", none_left)
    lan = Side(host_socket, none_left)
    async with serving(Rules(socks=[Place()]), lan=lan) as proxy:
        for request in (b"\5\1\0" + named("pc1", 9), b"\5\3\0\1" + bytes(6)):
            stream = await socks_client(proxy)
            await stream.send_all(request)
            assert (await exactly(stream, 10))[1] == socks.Reply.FAILURE
        await until(lambda: proxy.status()[0].failed == {"failed": 2})
        monkeypatch.setattr("trio._socket._SocketType.accept", none_left)
        tries = 0
        await dialled(proxy.status()[0])  # the one that waits in accept already
        await until(lambda: tries > 5)
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


@pytest.mark.parametrize("users", [None, {b"me": b"word"}])
async def test_socks_cut_off_anywhere_or_byte_by_byte(users, monkeypatch, caplog):
    monkeypatch.setattr("vswitch.proxy.socks_server.WRONG", 0)
    credentials = b"" if users is None else b"\1\2me\4word"
    async with echo() as port, serving(Rules(socks=[Place()], users=users)) as proxy:
        parts = [b"\5\2\0\2", credentials, b"\5\1\0" + named("pc1", port)]
        whole = b"".join(parts)
        for cut in range(len(whole)):
            stream = await dialled(proxy.status()[0])
            await stream.send_all(whole[:cut])
            await stream.send_eof()
            while await stream.receive_some():
                pass
        await until(lambda: proxy.status()[0].failed == {"bad_request": len(whole)})
        stream = await dialled(proxy.status()[0])
        for byte in whole + b"word":
            await stream.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()
        answers = 2 + 10 + (2 if users else 0)
        assert (await exactly(stream, answers + 4))[-4:] == b"word"
    assert "fault" not in caplog.text


async def test_other_addresses_than_loopback_are_said_aloud(caplog):
    async with serving(Rules(socks=[Place("0.0.0.0", 0), Place()])):
        pass
    (warning,) = (each for each in caplog.records if each.levelname == "WARNING")
    assert "every host that reaches this address is on the LAN" in warning.getMessage()


async def test_names_are_asked_anew_and_kept_while_the_switch_is_silent(autojump_clock):
    answers = [{"pc1": "10.0.0.1"}, VswitchError("away"), {"pc1": "10.0.0.2"}]
    asked = 0

    async def ask():
        nonlocal asked
        answer = answers[asked]
        asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    lan = LanNames(ask, no_dns)
    told = []
    for _ in range(3):
        told += [await lan.lookup("pc1"), await lan.lookup("pc1")]
        await trio.sleep(names.FRESH)
    assert told == [["10.0.0.1"]] * 4 + [["10.0.0.2"]] * 2
    assert asked == 3


async def test_dns_is_asked_once_for_many_datagrams_and_anew_later(autojump_clock, monkeypatch):
    monkeypatch.setattr(names, "_NAMES", 2)
    asked = []

    async def dns(name):
        await trio.lowlevel.checkpoint()
        asked.append(name)
        return ["10.0.0.9"]

    lan = LanNames(members, dns)
    for name in "a", "a", "b", "a", "c", "a", "b":
        assert await lan.lookup(name) == ["10.0.0.9"]
    assert asked == ["a", "b", "c", "b"]  # two are remembered, those asked for last
    await trio.sleep(names.FRESH)
    await lan.lookup("b")
    assert asked[4:] == ["b"]


async def test_member_listens_at_an_address_that_it_will_have():
    place = Place("192.0.2.77", 0)
    with await Side(host_socket, no_dns, may_be_absent=True).listen(place) as sock:
        assert sock.getsockname()[0] == place.host
    with pytest.raises(VswitchError, match=r"192\.0\.2\.77:0: this host does not have"):
        await Side(host_socket, no_dns).listen(place)


async def test_datagrams_are_answered_from_the_address_that_was_asked():
    """Of a socket at every address: a host has several, and the client knows the one it asked."""
    async with udp_echo() as port:
        target, lan = Place("127.0.0.1", port, udp=True), Side(host_socket, host_names)
        for place, host, family in (
            (Place("0.0.0.0", 0, udp=True), "127.0.0.7", socket.AF_INET),
            (Place("", 0, udp=True), "127.0.0.7", socket.AF_INET),
            (Place("", 0, udp=True), "::1", socket.AF_INET6),
        ):
            counts = Counts("forward", str(place))
            with await lan.listen(place) as listener:
                async with trio.open_nursery() as nursery:
                    dial = partial(lan.connect_datagrams, target)
                    nursery.start_soon(serve_datagrams, listener, dial, limits(), counts)
                    with trio.socket.socket(family, socket.SOCK_DGRAM) as client:
                        where = (host, listener.getsockname()[1])
                        await client.sendto(b"word", where)
                        data, source = await client.recvfrom(9)
                        assert (data, source[:2]) == (b"word", where)
                    nursery.cancel_scope.cancel()
