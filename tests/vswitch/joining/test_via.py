"""`join --via`: a host in a foreign port of a switch, ours or somebody else's."""

import socket
import struct
from contextlib import suppress

import pytest
import trio

from vswitch.errors import BadRecord, ConfigError, NotFound, NotReachable, VswitchError
from vswitch.foreign.kinds import KINDS
from vswitch.frames.ethernet import parse_mac
from vswitch.frames.records import SUPERFRAME, encode_record
from vswitch.frames.virtio import NO_OFFLOAD
from vswitch.joining import via
from vswitch.management.client import request
from vswitch.testing import FakeInterface, ethernet

A, B = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"


def frame(source, target=b"\xff" * 6, size=60):
    return ethernet(target, source, 0x88B5, bytes(size - 14))


async def taken(interface):
    with trio.fail_after(5):
        while not interface.written:  # noqa: ASYNC110 (sockets set no event)
            await trio.sleep(0.005)
    return interface.take()


@pytest.mark.parametrize("kind", ["udp", "tcp", "kcp"])
async def test_two_hosts_in_foreign_ports_reach_each_other(site, tmp_path, kind):
    path = tmp_path / "vswitch.toml"
    path.write_text(f'[[foreign]]\nkind = "{kind}"\nlisten = "127.0.0.1:0"\n')
    one, two = FakeInterface(superframes=True), FakeInterface()
    async with site.serving(config=path) as running:
        (listener,) = (await site.status()).foreign
        url = f"{kind}://{listener.listen}"
        async with (
            site.joined("pc1", None, interface=one, via=url, address="10.0.0.1/24") as member,
            site.joined("pc2", None, interface=two, via=url),
        ):
            with trio.fail_after(5):
                while len(running.switch.ports) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.005)
            one.feed(frame(A))
            assert await taken(two) == [frame(A)]
            two.feed(frame(B, A, 1514))
            assert await taken(one) == [frame(B, A, 1514)]
            # A superframe is cut on its way.
            one.feed_records([encode_record(SUPERFRAME, NO_OFFLOAD + frame(A, B, 200))])
            assert await taken(two) == [frame(A, B, 200)]
            status = await member.status()
            assert (status.state, status.server) == ("up", url)
            assert (status.tx_frames, status.rx_frames) == (2, 1)
            assert member.welcome.name == "pc1"
    assert not running.switch.ports


async def test_udp_is_known_from_the_start_and_each_datagram_is_a_frame(site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as switch:
        switch.bind(("127.0.0.1", 0))
        switch.setblocking(False)
        url = f"udp://127.0.0.1:{switch.getsockname()[1]}"
        host = FakeInterface()
        async with site.joined("pc1", None, interface=host, via=url) as member:
            await trio.lowlevel.wait_readable(switch)
            hello, client = switch.recvfrom(2000)
            assert hello[:14] == bytes.fromhex("0180c200000e") + parse_mac(host.mac) + b"\x88\xb5"
            switch.sendto(frame(B), client)
            assert await taken(host) == [frame(B)]
            host.feed(frame(A, B, 1514))
            await trio.lowlevel.wait_readable(switch)
            assert switch.recv(2000) == frame(A, B, 1514)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(frame(A), client)
            switch.sendto(frame(B, A), client)
            assert await taken(host) == [frame(B, A)]
            assert (await member.status()).drops == {"unknown_peer": 1}
            path = member.config.files.join_socket("pc1")
            state = await trio.to_thread.run_sync(request, path, "config-state")
            assert {"key": ["join", "via"], "value": url, "source": "option"} in state["settings"]
            with pytest.raises(NotFound, match="there is no session"):
                await trio.to_thread.run_sync(request, path, "peers")


async def test_a_tcp_connection_that_ends_is_made_again(site, monkeypatch):
    monkeypatch.setattr(via, "RETRY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        host = FakeInterface()
        async with site.joined("pc1", None, interface=host, via=url):
            for _ in range(3):
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(server)
                connection, _ = server.accept()
                connection.setblocking(False)
                data = frame(B)
                connection.send(b"\xbc\xbc" + struct.pack(">H", len(data)) + data)
                assert await taken(host) == [data]
                host.feed(frame(A, B))
                await trio.lowlevel.wait_readable(connection)
                assert connection.recv(100) == b"\xbc\xbc\x00\x3c" + frame(A, B)
                connection.close()


@pytest.mark.parametrize("fault", [OverflowError("too big"), BadRecord("no sense")], ids=repr)
async def test_what_goes_wrong_in_a_connection_is_its_end(site, monkeypatch, caplog, fault):
    monkeypatch.setattr(via, "RETRY", 0.01)

    def broken(self, limit):
        raise fault

    monkeypatch.setattr("vswitch.foreign.streams.StreamDevice.read_nowait", broken)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        async with site.joined("pc1", None, via=url) as member:
            for _ in range(3):
                with trio.fail_after(20):
                    await trio.lowlevel.wait_readable(server)
                connection, _ = server.accept()
                connection.send(b"x")
                connection.close()
            assert member.error is None
    assert ("session-fault" in caplog.text) is isinstance(fault, OverflowError)


async def test_a_refused_connection_ends_a_join_that_tries_once(site):
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{taken_port.getsockname()[1]}"
        error = await site.failing("pc1", via=url, once=True)
    assert isinstance(error, NotReachable)
    assert "Connection refused" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_may_name_the_kinds_that_have_a_client(site, kind):
    url = f"{kind}://192.0.2.1:5555"
    if KINDS[kind].connect is None:
        with pytest.raises(ValueError, match="write udp://HOST:PORT, tcp://HOST:PORT or kcp"):
            site.join_config("pc1", via=url)
    else:
        assert site.join_config("pc1", via=url).via == url


@pytest.mark.parametrize(
    "url", ["udp://x", "x://h:1", "udp://:5", "tcp://h:0", "h:5", "tcp://h:99999"]
)
def test_a_wrong_url_is_refused(site, url):
    with pytest.raises(ValueError, match=r"HOST:PORT|port"):
        site.join_config("pc1", via=url)


async def test_the_next_address_of_a_name_is_tried_when_one_refuses(site, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        addresses = [nobody.getsockname(), server.getsockname()]

        async def find(where, kind, bind):
            await trio.lowlevel.checkpoint()
            return addresses

        monkeypatch.setattr("vswitch.foreign.tcp.find", find)
        async with site.joined("pc1", None, via="tcp://switch.example:5555") as member:
            assert (await member.status()).state == "up"


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_of_the_addresses_of_a_name_those_of_the_family_of_bind_are_used(
    site, monkeypatch, kind
):
    stream = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, stream) as server:
        server.bind(("127.0.0.1", 0))
        if kind == "tcp":
            server.listen()
        addresses = [("::1", server.getsockname()[1]), server.getsockname()]

        async def resolve(host, port, kind):
            await trio.lowlevel.checkpoint()
            return addresses

        monkeypatch.setattr("vswitch.foreign.sockets.resolve", resolve)
        url = f"{kind}://switch.example:5555"
        async with site.joined("pc1", None, via=url, bind="127.0.0.1"):
            server.setblocking(False)
            with trio.fail_after(20):
                await trio.lowlevel.wait_readable(server)
        addresses.pop()
        error = await site.failing("pc1", via=url, bind="127.0.0.1", once=True)
        assert str(error) == "switch.example has no address that 127.0.0.1 can reach"


async def test_a_name_that_is_not_known_says_so(site, monkeypatch):
    async def resolve(host, port, kind):
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("vswitch.foreign.sockets.resolve", resolve)
    for kind in ("udp", "tcp"):
        error = await site.failing("pc1", via=f"{kind}://switch.example:5555", once=True)
        assert isinstance(error, NotReachable)
        assert str(error) == "cannot resolve switch.example: Name or service not known"


async def test_a_switch_out_of_step_costs_the_connection_alone(site, monkeypatch):
    monkeypatch.setattr(via, "RETRY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        host = FakeInterface()
        async with site.joined("pc1", None, interface=host, via=url):
            for hostile in (True, False):
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(server)
                connection, _ = server.accept()
                with connection:
                    connection.setblocking(False)
                    if hostile:
                        connection.send(bytes(4) + b"\xbc\xbc\x00\x0e" * 1000)
                        with trio.fail_after(5):
                            await trio.lowlevel.wait_readable(connection)
                        with suppress(ConnectionResetError):  # if it had not read all
                            assert connection.recv(100) == b""
                        host.take()
                    else:
                        connection.send(b"\xbc\xbc\x00\x3c" + frame(B))
                        assert frame(B) in await taken(host)


async def mac_of(site, name, **options):
    """What an interface has that is made for it."""
    interface = FakeInterface(**options)
    async with site.joined(name, None, interface=interface, via="udp://127.0.0.1:9"):
        return interface.mac


async def test_a_host_keeps_its_mac_address(site):
    first = await mac_of(site, "pc1")
    assert parse_mac(first)[0] & 3 == 2
    assert await mac_of(site, "pc1") == first
    assert await mac_of(site, "pc2") != first
    # What was there before is left as it is.
    assert await mac_of(site, "pc3", persistent=True) == FakeInterface().mac


@pytest.mark.parametrize("text", ["", "pc1", "ff:ff:ff:ff:ff:ff", "\udcff"])
async def test_a_file_that_holds_no_mac_address_is_named(site, text):
    files = site.join_config("pc1", via="udp://127.0.0.1:9").files
    files.ensure()
    files.mac("pc1").write_text(text, errors="surrogateescape")
    error = await site.failing("pc1", via="udp://127.0.0.1:9")
    assert isinstance(error, ConfigError)
    assert str(files.mac("pc1")) in str(error)


async def test_a_host_whose_state_takes_nothing_comes_in_all_the_same(site, monkeypatch, caplog):
    def full(*_):
        raise VswitchError("cannot write: no space left")

    monkeypatch.setattr(via, "write_file", full)
    assert parse_mac(await mac_of(site, "pc1"))[0] & 3 == 2
    assert "mac-not-kept member=pc1" in caplog.text


async def test_what_an_old_switch_sends_back_is_dropped_and_counted(site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as switch:
        switch.bind(("127.0.0.1", 0))
        switch.setblocking(False)
        url = f"udp://127.0.0.1:{switch.getsockname()[1]}"
        host = FakeInterface()
        async with site.joined("pc1", None, interface=host, via=url) as member:
            await trio.lowlevel.wait_readable(switch)
            hello, client = switch.recvfrom(2000)
            host.feed(frame(A))
            await trio.lowlevel.wait_readable(switch)
            echo = switch.recv(2000)
            for datagram in (echo, hello, frame(B), echo):
                switch.sendto(datagram, client)
            assert await taken(host) == [frame(B)]
            with trio.fail_after(5):
                while (await member.status()).drops != {"echo": 3}:  # noqa: ASYNC110
                    await trio.sleep(0.005)
