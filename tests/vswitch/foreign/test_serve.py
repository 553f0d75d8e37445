"""Foreign ports of a running switch, with clients written from the description of the formats."""

import errno
import logging
import os
import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
import trio.lowlevel
import trio.testing

from vswitch.addresses import HostPort
from vswitch.errors import VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.foreign import client_limit, datagrams, sockets, tcp, udp, vxlan
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.serve import open_foreign
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.switch.switch import open_switch
from vswitch.testing import ethernet

BROADCAST = b"\xff" * 6
EXPERIMENTAL = 0x88B5


def mac(number):
    return b"\x02\x00\x00\x00" + number.to_bytes(2, "big")


def frame(source, target=BROADCAST, size=60):
    return ethernet(target, source, EXPERIMENTAL, bytes(size - 14))


def address_of(listener):
    where = HostPort.parse(listener.listen)
    return where.host, where.port


class UdpClient:
    """A datagram is a frame."""

    def __init__(self, address, bound="127.0.0.1"):
        self.sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address, self.bound = address, bound

    async def __aenter__(self):
        await self.sock.bind((self.bound, 0))
        return self

    async def __aexit__(self, *_):
        self.sock.close()

    async def send(self, data):
        await self.sock.sendto(data, self.address)

    async def receive(self):
        with trio.fail_after(5):
            return await self.sock.recv(65536)


class TcpClient:
    """0xBCBC, a length of two bytes, a frame."""

    head = b"\xbc\xbc"
    format = ">H"

    def __init__(self, address, bound=None):
        self.address, self.bound, self.data = address, bound, b""

    async def __aenter__(self):
        self.stream = await trio.open_tcp_stream(*self.address, local_address=self.bound)
        return self

    async def __aexit__(self, *_):
        await self.stream.aclose()

    def encode(self, data):
        return self.head + struct.pack(self.format, len(data)) + data

    async def send(self, data):
        await self.stream.send_all(self.encode(data))

    async def receive(self):
        skip = len(self.head)
        size = skip + struct.calcsize(self.format)
        with trio.fail_after(5):
            while len(self.data) < size or len(self.data) < size + self.length(skip, size):
                more = await self.stream.receive_some()
                if not more:
                    raise EOFError
                self.data += more
        assert self.data.startswith(self.head)
        end = size + self.length(skip, size)
        got, self.data = self.data[size:end], self.data[end:]
        return got

    def length(self, skip, size):
        return struct.unpack(self.format, self.data[skip:size])[0]


class QemuClient(TcpClient):
    """A length of four bytes, a frame."""

    head = b""
    format = ">I"


CLIENTS = {"udp": UdpClient, "tcp": TcpClient, "qemu-stream": QemuClient, "qemu-dgram": UdpClient}


@asynccontextmanager
async def serving(kind, **options):
    options = {"listen": "127.0.0.1:0", "name": "lab", **options}
    settings = ForeignSettings(kind=kind, **options)
    async with open_switch() as switch, open_foreign(switch, [settings]) as (listener,):
        yield switch, listener


async def until(condition):
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 (sockets set no event)
            await trio.sleep(0.005)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_two_clients_and_a_port_of_the_program_reach_each_other(kind):
    a, b = mac(1), mac(2)
    async with (
        serving(kind) as (switch, listener),
        switch.open_port("bot") as bot,
        CLIENTS[kind](address_of(listener)) as one,
        CLIENTS[kind](address_of(listener)) as two,
    ):
        await one.send(frame(a))
        assert await bot.receive_frame() == frame(a)
        await two.send(frame(b))
        assert await bot.receive_frame() == frame(b)
        assert await one.receive() == frame(b)
        await one.send(frame(a, b, 1514))
        while (got := await two.receive()) == frame(a):
            pass
        assert got == frame(a, b, 1514)
        names = {port.name for port in switch.ports}
        assert len(names) == 3
        assert sum(name.startswith("lab-127.0.0.1:") for name in names) == 2
        assert sorted(port.group for port in switch.ports) == ["", "lab", "lab"]


@pytest.mark.parametrize("kind", CLIENTS)
async def test_sixty_four_clients_at_once_and_no_more(kind, caplog):
    async with serving(kind) as (switch, listener), trio.open_nursery() as nursery:
        reached = [0]

        async def client(number):
            async with CLIENTS[kind](address_of(listener)) as one:
                await one.send(frame(mac(number)))
                await until(lambda: len(switch.fdb_entries()) == 64)
                await one.send(frame(mac(number), mac((number + 1) % 64)))
                while await one.receive() != frame(mac((number - 1) % 64), mac(number)):
                    pass
                reached[0] += 1
                await until(lambda: reached[0] == 64)

        for number in range(64):
            nursery.start_soon(client, number)
        await until(lambda: len(switch.ports) == 64)
        async with CLIENTS[kind](address_of(listener)) as late:
            await late.send(frame(mac(99)))
            await until(lambda: listener.refused["ports_taken"] == 1)
            assert len(switch.ports) == 64
    assert caplog.text.count("foreign-refused name=lab reason=ports_taken") == 1


@pytest.mark.linux
@pytest.mark.parametrize("listen", ["[::]:0", "0.0.0.0:0"])
async def test_frames_leave_from_the_address_that_a_client_has_asked(listen):
    async with serving("udp", listen=listen) as (switch, listener):
        port = address_of(listener)[1]
        for asked in ("127.0.0.2", "127.0.0.3"):
            async with UdpClient((asked, port)) as client, switch.open_port("x") as own:
                await client.send(frame(mac(1)))
                await own.receive()
                await own.send(frame(mac(2), mac(1)))
                with trio.fail_after(5):
                    got, source = await client.sock.recvfrom(2000)
                assert (got, source) == (frame(mac(2), mac(1)), (asked, port))


async def test_who_sent_to_an_address_that_is_none_of_ours_is_answered_all_the_same():
    """To a broadcast address, say: the first frame is lost, then the routes choose."""
    async with serving("udp", listen="[::]:0") as (switch, listener):
        async with UdpClient(("127.0.0.1", address_of(listener)[1])) as client:
            async with switch.open_port("x") as own:
                await client.send(frame(mac(1)))
                await own.receive()
                (device,) = [each.device for each in switch.ports if each.name != "x"]
                device.answer([(41, 50, bytes(10) + b"\xff\xff\xc0\0\2\1" + bytes(4))])
                await own.send(frame(mac(2), mac(1)))
                await own.send(frame(mac(3), mac(1)))
                assert await client.receive() == frame(mac(3), mac(1))
                assert device.dropped == {"unreachable": 1}


async def test_a_silent_udp_client_is_forgotten_and_known_again():
    async with serving("udp", idle=1.0) as (switch, listener):
        async with UdpClient(address_of(listener)) as one, UdpClient(address_of(listener)) as two:
            await one.send(frame(mac(1)))
            await until(lambda: len(switch.ports) == 1)
            start = trio.current_time()
            while switch.ports and trio.current_time() < start + 3:
                await two.send(frame(mac(2)))
                await trio.sleep(0.1)
                if [entry.mac for entry in switch.fdb_entries()] == [format_mac(mac(2))]:
                    break
            assert 0.8 < trio.current_time() - start < 2.5
            assert len(switch.ports) == 1
            await one.send(frame(mac(1)))
            await until(lambda: len(switch.ports) == 2)
            await until(lambda: len(switch.ports) == 0)


def stations(switch):
    return {parse_mac(entry.mac) for entry in switch.fdb_entries()}


async def until_quiet():
    for _ in range(3):
        await trio.testing.wait_all_tasks_blocked(0.05)


@pytest.mark.parametrize("idle", [300, "off"])
async def test_a_silent_client_keeps_its_place_and_stations_when_asked(idle, mock_clock):
    async with (
        serving("udp", idle=idle, max_ports=2) as (switch, listener),
        UdpClient(address_of(listener)) as one,
        UdpClient(address_of(listener)) as two,
        UdpClient(address_of(listener)) as three,
    ):
        await one.send(frame(mac(1)))
        await until_quiet()
        mock_clock.jump(1)
        await two.send(frame(mac(2)))
        await until_quiet()
        assert len(switch.ports) == 2
        for _ in range(20):
            mock_clock.jump(75)
            await until_quiet()
        assert stations(switch) == ({mac(1), mac(2)} if idle == "off" else set())
        assert len(switch.ports) == len(stations(switch))
        # The longest silent goes once its place is needed.
        await three.send(frame(mac(3)))
        await until_quiet()
        assert stations(switch) == ({mac(2), mac(3)} if idle == "off" else {mac(3)})
        assert not listener.refused


@pytest.mark.parametrize(
    ("kind", "said", "passes"),
    [
        ("udp", None, 1500),
        ("tcp", None, 1500),
        ("tcp", 1400, 1400),
        ("udp", 1400, 1400),
        ("udp", 9000, 9000),
        ("tcp", 9000, 9000),
        ("qemu-stream", None, 9000),
        ("qemu-stream", 1500, 1500),
    ],
)
async def test_a_listener_has_an_mtu_of_its_own(kind, said, passes):
    settings = ForeignSettings(kind=kind, name="lab", listen="127.0.0.1:0", mtu=said)
    async with (
        open_switch(mtu=9000) as switch,
        open_foreign(switch, [settings]) as (listener,),
        switch.open_port("bot") as bot,
        CLIENTS[kind](address_of(listener)) as one,
    ):
        await one.send(frame(mac(1)))
        await bot.receive_frame()
        (port,) = [port for port in switch.ports if port.name != "bot"]
        assert port.device.mtu == passes
        largest, dropped = passes + 14 + 8, port.device.dropped  # a header and two VLAN tags
        sizes = [60, 9022, largest, min(largest + 1, 9022), largest - 1]
        for size in sizes:
            await bot.send(frame(mac(2), mac(1), size))
        for size in sizes:
            if size <= largest:
                assert await one.receive() == frame(mac(2), mac(1), size)
        above = sum(size > largest for size in sizes)
        assert dropped["oversize"] == above
        await one.send(frame(mac(1), mac(2), min(largest + 1, 9022)))
        await one.send(frame(mac(1), mac(2), 60))
        while len(received := await bot.receive_frame()) > 60:
            assert largest == 9022
        assert received == frame(mac(1), mac(2), 60)
        assert dropped["oversize"] == above + (largest < 9022)


async def test_what_is_no_frame_makes_no_client_and_is_counted():
    async with serving("udp") as (switch, listener):
        async with UdpClient(address_of(listener)) as one:
            await one.send(b"")
            await one.send(bytes(13))
            await one.send(bytes(1523))
            await until(lambda: listener.refused["no_frame"] == 3)
            assert not switch.ports
            await one.send(frame(mac(1)))
            await until(lambda: len(switch.ports) == 1)
            for data in (b"", bytes(13), bytes(1523), bytes(9000), frame(mac(1))):
                await one.send(data)
            (port,) = switch.ports
            await until(lambda: port.counters.rx_frames == 2)
            assert port.device.dropped == {"runt": 2, "oversize": 2}


async def test_new_clients_beyond_the_rate_are_refused(monkeypatch):
    monkeypatch.setattr(client_limit, "NEW_PER_SECOND", 0.0)
    async with serving("udp", max_ports=4, idle=1.0) as (switch, listener):
        for number in range(4):
            async with UdpClient(address_of(listener)) as one:
                await one.send(frame(mac(number)))
        await until(lambda: len(switch.ports) == 4)
        await until(lambda: len(switch.ports) == 0)
        async with UdpClient(address_of(listener)) as one:
            await one.send(frame(mac(9)))
            await until(lambda: listener.refused["too_many_new"] == 1)
            assert not switch.ports


@pytest.mark.parametrize("kind", ["tcp", "qemu-stream"])
async def test_a_closed_connection_is_a_port_down(kind):
    async with serving(kind) as (switch, listener):
        async with CLIENTS[kind](address_of(listener)) as one:
            await one.send(frame(mac(1)))
            await until(lambda: len(switch.fdb_entries()) == 1)
            await one.stream.send_all(one.encode(frame(mac(1)))[:30])
        await until(lambda: not switch.ports)
        assert switch.fdb_entries() == []
        # And the end of the switch is the end of the connections.
    async with serving(kind) as (switch, listener):
        one = await CLIENTS[kind](address_of(listener)).__aenter__()
        await until(lambda: len(switch.ports) == 1)
    with pytest.raises((EOFError, trio.BrokenResourceError)):
        await one.receive()
    await one.stream.aclose()


async def test_garbage_between_records_costs_no_frame():
    async with (
        serving("tcp") as (switch, listener),
        switch.open_port("bot") as bot,
        TcpClient(address_of(listener)) as one,
    ):
        for number in range(10):
            data = frame(mac(number))
            await one.stream.send_all(b"garbage \xbc\xbc\xff\xff garbage" + one.encode(data))
            with trio.fail_after(5):
                assert await bot.receive_frame() == data
        port = next(port for port in switch.ports if port.name != "bot")
        assert port.device.dropped == {"resync": 10}
        # One byte at a time.
        for byte in one.encode(frame(mac(77))):
            await one.stream.send_all(bytes([byte]))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(77))


async def test_a_connection_that_speaks_something_else_is_closed():
    async with serving("qemu-stream") as (switch, listener):
        async with TcpClient(address_of(listener)) as one:
            await one.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            with trio.fail_after(5):
                assert await one.stream.receive_some() == b""
        assert not switch.ports


async def test_who_loses_the_step_again_and_again_is_closed():
    async with serving("tcp") as (switch, listener):
        async with TcpClient(address_of(listener)) as one:
            # Frames of possible length, and never a flag behind one.
            await one.stream.send_all(bytes(4) + b"\xbc\xbc\x00\x0e" * 1000)
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await one.receive()
        await until(lambda: not switch.ports)


async def test_a_peer_that_does_not_read_loses_frames_and_stalls_nobody():
    async with (
        serving("tcp") as (switch, listener),
        switch.open_port("bot") as bot,
        TcpClient(address_of(listener)) as stalled,
        TcpClient(address_of(listener)) as lively,
    ):
        await stalled.send(frame(mac(1)))
        await lively.send(frame(mac(2)))
        await until(lambda: len(switch.fdb_entries()) == 2)
        port = switch._ports[
            next(e.port for e in switch.fdb_entries() if e.mac == format_mac(mac(1)))
        ]
        number = 0
        while not sum(port.counters.drops.values()):
            await bot.send_batch([frame(mac(3), mac(1), 1514)] * 64)
            number += 64
            assert number < 100_000
        await bot.send(frame(mac(3), mac(2), 100))
        while len(got := await lively.receive()) != 100:
            pass
        assert got == frame(mac(3), mac(2), 100)
        assert port.statistics().queued_bytes <= 4 * 1024 * 1024
        # When it reads again, it is in step, and gets whole frames until the queue is empty.
        count = 0
        while port.statistics().queued_frames:
            assert await stalled.receive() in (frame(mac(2)), frame(mac(3), mac(1), 1514))
            count += 1
        assert count


async def test_the_log_says_that_it_is_plain_text(caplog):
    async with serving("udp", name="open"):
        pass
    (line,) = [each for each in caplog.records if "foreign-listening" in each.message]
    assert line.levelno == logging.WARNING
    assert "name=open" in line.message
    assert "not encrypted" in line.message


async def test_qemu_clients_over_unix_sockets_reach_each_other(tmp_path):
    stream, dgram = tmp_path / "stream", tmp_path / "dgram"
    settings = [
        ForeignSettings(kind="qemu-stream", name="s", listen=f"unix:{stream}"),
        ForeignSettings(kind="qemu-dgram", name="d", listen=f"unix:{dgram}"),
    ]
    async with open_switch() as switch, open_foreign(switch, settings):
        assert stream.stat().st_mode & 0o777 == 0o600
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as two,
        ):
            one.connect(str(stream))
            two.bind(str(tmp_path / "client"))
            two.connect(str(dgram))
            one.setblocking(False)
            two.setblocking(False)
            data = frame(mac(1))
            one.send(struct.pack(">I", len(data)) + data)
            await until(lambda: len(switch.fdb_entries()) == 1)
            reply = frame(mac(2), mac(1))
            two.send(reply)
            await trio.lowlevel.wait_readable(one)
            assert one.recv(4096) == struct.pack(">I", len(reply)) + reply
            one.send(struct.pack(">I", 60) + frame(mac(1), mac(2)))
            await trio.lowlevel.wait_readable(two)
            assert two.recv(4096) == frame(mac(1), mac(2))
            # A peer that does not read loses frames; nothing else happens.
            port = next(port for port in switch.ports if port.name.startswith("d-"))
            while not port.device.dropped["peer_full"]:
                one.send(struct.pack(">I", 60) + frame(mac(1), mac(2)))
                await trio.lowlevel.checkpoint()
            assert port.attached
    assert not stream.exists()
    assert not dgram.exists()
    stream.write_text("somebody's file")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_switch() as switch, open_foreign(switch, settings):
            pass
    assert caught.group_contains(VswitchError, match="is no socket")


async def test_vxlan_frames_pass_and_those_of_strangers_are_counted():
    settings = ForeignSettings(
        kind="vxlan", name="vx", listen="127.0.0.1:0", remote="127.0.0.2:0", vni=42
    )
    async with UdpClient(None, "127.0.0.2") as peer:
        port = peer.sock.getsockname()[1]
        settings = ForeignSettings(
            kind="vxlan", name="vx", listen="127.0.0.1:0", remote=f"127.0.0.2:{port}", vni=42
        )
        async with (
            open_switch() as switch,
            open_foreign(switch, [settings]) as (listener,),
            switch.open_port("bot") as bot,
            UdpClient(address_of(listener), "127.0.0.3") as stranger,
        ):
            peer.address = address_of(listener)
            await stranger.send(bytes.fromhex("0800000000002a00") + frame(mac(9)))
            await peer.send(bytes.fromhex("0800000000002b00") + frame(mac(8)))
            await peer.send(b"\x00" * 8 + frame(mac(7)))
            await peer.send(bytes.fromhex("0800000000002a00") + frame(mac(1)))
            with trio.fail_after(5):
                assert await bot.receive_frame() == frame(mac(1))
            await bot.send(frame(mac(2), mac(1), 1514))
            got = await peer.receive()
            assert got == bytes.fromhex("0800000000002a00") + frame(mac(2), mac(1), 1514)
            assert listener.refused == {"unknown_peer": 2, "no_frame": 1}


async def test_vxlan_networks_share_a_socket_and_each_has_its_port():
    one, two, again = (
        ForeignSettings(
            kind="vxlan", name=f"vx{vni}", listen="127.0.0.1:0", remote="127.0.0.2:4789", vni=vni
        )
        for vni in (1, 2, 1)
    )
    async with open_switch() as switch, open_foreign(switch, [one, two]) as listeners:
        assert len({each.listen for each in listeners}) == 1
        assert [port.name for port in switch.ports] == ["vx1", "vx2"]
        assert all(port.bridge for port in switch.ports)
    with pytest.raises(ExceptionGroup) as caught:
        async with open_switch() as switch, open_foreign(switch, [one, two, again]):
            pass
    assert caught.group_contains(VswitchError, match="127.0.0.2:4789 has a port of VNI 1")


async def test_a_port_in_use_says_so():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ExceptionGroup) as caught:
            async with serving("udp", listen=taken):
                pass
        assert caught.group_contains(VswitchError, match="is in use by another program")


async def test_serve_opens_what_the_file_names(site, tmp_path):
    path = tmp_path / "vswitch.toml"
    names = "[names]\nenabled = false\n"  # whose port would be one more
    path.write_text(names + '[[foreign]]\nkind = "udp"\nlisten = "127.0.0.1:0"\nname = "lab"\n')
    async with site.serving(config=path) as running:
        (listener,) = (await site.status()).foreign
        assert (listener.kind, listener.name) == ("udp", "lab")
        async with UdpClient(address_of(listener)) as one:
            await one.send(frame(mac(1)))
            await one.send(bytes(3))
            await until(lambda: len(running.switch.ports) == 1)
            await until(lambda: running.switch.ports[0].device.dropped["runt"])
            (port,) = (await site.status()).ports
            assert port.name.startswith("lab-127.0.0.1:")
            assert port.via.startswith("foreign-udp:127.0.0.1:")
            assert port.drops["runt"] == 1
    path.write_text('[[foreign]]\nkind = "udp"\nlisten = "192.0.2.77:1"\n')
    with pytest.raises(VswitchError, match="cannot listen on 192"):
        await running_for_ever(site, path)


async def running_for_ever(site, path):
    async with site.serving(config=path):
        await trio.sleep_forever()


async def test_senders_that_cannot_be_answered_harm_nobody(tmp_path):
    path = tmp_path / "dgram"
    settings = [ForeignSettings(kind="qemu-dgram", name="d", listen=f"unix:{path}")]
    async with open_switch() as switch, open_foreign(switch, settings) as (listener,):
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
        ):
            nameless.sendto(frame(mac(1)), str(path))
            await until(lambda: listener.refused == {"no_address": 1})
            assert not switch.ports
            abstract.bind(b"\0vswitch test " + os.urandom(4).hex().encode())
            abstract.sendto(frame(mac(2)), str(path))
            await until(lambda: len(switch.ports) == 1)
            assert switch.ports[0].name.startswith("d-unix:@vswitch test ")
            abstract.setblocking(False)
            async with switch.open_port("bot") as bot:
                await bot.send(frame(mac(3), mac(2)))
                await trio.lowlevel.wait_readable(abstract)
                assert abstract.recv(4096) == frame(mac(3), mac(2))


@pytest.mark.parametrize(
    ("address", "answer", "text"),
    [
        (None, False, "unix:"),
        ("", False, "unix:"),
        (b"", False, "unix:"),
        (b"\0abstract\n", True, "unix:@abstract?"),
        (b"\0\xff", True, "unix:@?"),
        ("/run/a.sock", True, "unix:/run/a.sock"),
        (("192.0.2.1", 0), False, "192.0.2.1:0"),
        (("192.0.2.1", 9), True, "192.0.2.1:9"),
        (("::ffff:192.0.2.1", 9, 0, 0), True, "192.0.2.1:9"),
        (("fe80::1", 9, 0, 3), True, "[fe80::1%3]:9"),
    ],
)
def test_addresses_of_every_kind(address, answer, text):
    assert sockets.can_answer(address) is answer
    assert sockets.shown(address) == text


def planted(*_):
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_a_fault_costs_the_client_that_shows_it_alone(kind, monkeypatch, caplog):
    """In what lets clients in."""
    module = udp if kind == "udp" else tcp
    async with (
        serving(kind) as (switch, listener),
        CLIENTS[kind](address_of(listener)) as before,
    ):
        await before.send(frame(mac(1)))
        await until(lambda: len(switch.fdb_entries()) == 1)
        with monkeypatch.context() as patch:
            patch.setattr(module, "shown", planted)
            for number in (1, 2):
                async with CLIENTS[kind](address_of(listener)) as one:
                    await one.send(frame(mac(9)))
                    await until(lambda: listener.refused["fault"] == number)  # noqa: B023
        assert len(switch.ports) == 1
        async with CLIENTS[kind](address_of(listener)) as after:
            await after.send(frame(mac(2)))
            assert await before.receive() == frame(mac(2))
    assert caplog.text.count("foreign-fault reference=") == 1
    assert caplog.text.count("ZeroDivisionError: planted") == 1


@pytest.mark.parametrize("method", ["read_nowait", "write_nowait"])
@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_fault_of_a_device_is_the_end_of_its_port_alone(kind, method, monkeypatch, caplog):
    async with (
        serving(kind) as (switch, listener),
        CLIENTS[kind](address_of(listener)) as one,
        CLIENTS[kind](address_of(listener)) as two,
    ):
        await one.send(frame(mac(1)))
        await until(lambda: len(switch.fdb_entries()) == 1)
        (port,) = (each for each in switch.ports if each.number == switch.fdb_entries()[0].port)
        monkeypatch.setattr(port.device, method, planted)
        await one.send(frame(mac(1)))
        await two.send(frame(mac(2)))
        await until(lambda: not port.attached)
        async with switch.open_port("bot") as bot:
            await two.send(frame(mac(2)))
            with trio.fail_after(5):
                assert await bot.receive_frame() == frame(mac(2))
    assert caplog.text.count("ZeroDivisionError: planted") == 1


async def test_a_fault_of_a_codec_is_the_end_of_its_client_alone(monkeypatch):
    async with (
        serving("tcp") as (switch, listener),
        TcpClient(address_of(listener)) as one,
        TcpClient(address_of(listener)) as two,
        switch.open_port("bot") as bot,
    ):
        await until(lambda: len(switch.ports) == 3)
        with monkeypatch.context() as patch:
            patch.setattr(tcp.FramedStream, "feed_untrusted", planted)
            await one.send(frame(mac(1)))
            await until(lambda: len(switch.ports) == 2)
        await two.send(frame(mac(2)))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(2))


@pytest.mark.parametrize("kind", ["udp", "tcp", "vxlan"])
async def test_a_fault_of_a_listener_ends_it_alone(kind, monkeypatch, caplog):
    of_all = (tcp, "_BATCH", None), (datagrams.SharedSocket, "_receive", planted)
    more = {"remote": "127.0.0.2:1", "vni": 1} if kind == "vxlan" else {}
    settings = [
        ForeignSettings(kind=kind, name="bad", listen="127.0.0.1:0", **more),
        ForeignSettings(kind="qemu-stream", name="good", listen="127.0.0.1:0"),
    ]
    async with open_switch() as switch, open_foreign(switch, settings) as (bad, good):
        with monkeypatch.context() as patch:
            patch.setattr(*of_all[kind != "tcp"])
            async with CLIENTS.get(kind, UdpClient)(address_of(bad)) as one:
                await one.send(frame(mac(1)))
                await until(lambda: bad.refused["fault"] == 1)
        (told,) = switch.events.since()
        assert (told.kind, told.facts["name"]) == ("listener-ended", "bad")
        assert (bad.ended, good.ended) == (told.facts["reference"], None)
        assert not switch.ports
        async with QemuClient(address_of(good)) as two, switch.open_port("bot") as bot:
            await two.send(frame(mac(2)))
            with trio.fail_after(5):
                assert await bot.receive_frame() == frame(mac(2))
    assert f"foreign-fault reference={told.facts['reference']} name=bad ended=True" in caplog.text


class Redialling:
    """Dials again at once when its connection ends, as some programs do."""

    def __init__(self, address):
        self.address, self.dialled = address, 0

    async def run(self, times):
        for _ in range(times):
            async with TcpClient(self.address) as one:
                self.dialled += 1
                with suppress(trio.BrokenResourceError):
                    assert await one.stream.receive_some() == b""


async def test_a_refused_client_is_held_and_does_not_dial_again_at_once(monkeypatch):
    monkeypatch.setattr(tcp, "HOLD", 0.1)
    async with (
        serving("tcp", max_ports=1) as (switch, listener),
        TcpClient(address_of(listener)),
    ):
        await until(lambda: len(switch.ports) == 1)
        start = trio.current_time()
        await Redialling(address_of(listener)).run(5)
        assert trio.current_time() - start >= 5 * 0.1
        assert listener.refused == {"ports_taken": 5}


async def test_more_than_are_held_are_accepted_slowly_and_the_oldest_goes(monkeypatch):
    monkeypatch.setattr(tcp, "HELD", 2)
    monkeypatch.setattr(tcp, "HOLD", 1000.0)
    monkeypatch.setattr(tcp, "HOLD_AT_LEAST", 0.1)
    async with (
        serving("tcp", max_ports=1) as (switch, listener),
        TcpClient(address_of(listener)) as served,
        trio.open_nursery() as nursery,
    ):
        await until(lambda: len(switch.ports) == 1)
        start = trio.current_time()
        for _ in range(6):
            nursery.start_soon(Redialling(address_of(listener)).run, 1000)
        await until(lambda: listener.refused["ports_taken"] >= 10)
        held = listener.refused["ports_taken"]
        assert held <= 2 + 2 * (trio.current_time() - start) / 0.1 + 2
        async with switch.open_port("bot") as bot:
            await served.send(frame(mac(1)))
            with trio.fail_after(5):
                assert await bot.receive_frame() == frame(mac(1))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_places_are_shared_between_addresses(kind):
    async with serving(kind, max_ports=4) as (switch, listener), AsyncExitStack() as stack:

        async def come(number, bound):
            one = CLIENTS[kind](address_of(listener), bound)
            await stack.enter_async_context(one)
            await one.send(frame(mac(number)))
            return one

        def stations():
            return {int(entry.mac[-2:], 16) for entry in switch.fdb_entries()}

        for number in (1, 2, 3, 4):
            await come(number, "127.0.0.1")
            await until(lambda: number in stations())  # noqa: B023
        await come(5, "127.0.0.2")
        await until(lambda: stations() == {2, 3, 4, 5})
        await come(6, "127.0.0.2")
        await until(lambda: stations() == {3, 4, 5, 6})
        assert not listener.refused
        await come(7, "127.0.0.2")
        await until(lambda: listener.refused == {"ports_taken": 1})
        await come(8, "127.0.0.3")
        await until(lambda: len(stations()) == 4 and 8 in stations())
        await come(9, "127.0.0.4")
        await until(lambda: len(stations()) == 4 and {8, 9} < stations())
        await come(10, "127.0.0.5")  # it would hold as many as each of the others
        await until(lambda: listener.refused == {"ports_taken": 2})
        assert {8, 9} < stations()


async def test_a_udp_client_that_comes_again_and_again_takes_its_own_places(monkeypatch):
    monkeypatch.setattr(client_limit, "OWN_SILENCE", 0.2)
    async with serving("udp", max_ports=4) as (switch, listener):
        for number in range(12):
            async with UdpClient(address_of(listener)) as one:
                while mac(number) not in known(switch):
                    await one.send(frame(mac(number)))
                    await trio.sleep(0.05)
        assert len(switch.ports) == 4


@pytest.mark.parametrize(("silence", "comes"), [(0.0, True), (1000.0, False)])
async def test_a_place_of_another_is_taken_after_a_long_silence_alone(monkeypatch, silence, comes):
    monkeypatch.setattr(client_limit, "OTHERS_SILENCE", silence)
    monkeypatch.setattr(client_limit, "NEW_PER_SECOND", 1e6)
    async with serving("udp", max_ports=1) as (switch, listener):
        async with (
            UdpClient(address_of(listener)) as one,
            UdpClient(address_of(listener), "127.0.0.2") as two,
        ):
            await one.send(frame(mac(1)))
            await until(lambda: known(switch) == {mac(1)})
            await two.send(frame(mac(2)))
            await until(lambda: listener.refused or known(switch) == {mac(2)})
            assert known(switch) == {mac(2 if comes else 1)}


def known(switch):
    return {bytes.fromhex(entry.mac.replace(":", "")) for entry in switch.fdb_entries()}


async def test_without_descriptors_the_listener_waits_and_tells_once(monkeypatch, caplog):
    fails = [OSError(errno.EMFILE, "no descriptors")] * 3
    real = socket.socket.accept

    def accept(self):
        if fails:
            raise fails.pop()
        return real(self)

    monkeypatch.setattr(tcp, "_RETRY", 0.05)
    monkeypatch.setattr(socket.socket, "accept", accept)
    async with serving("tcp") as (switch, listener):
        async with TcpClient(address_of(listener)) as one:
            await one.send(frame(mac(1)))
            await until(lambda: known(switch) == {mac(1)})
        assert listener.refused == {"no_descriptor": 3}
    assert caplog.text.count("foreign-refused") == 1
    assert "Traceback" not in caplog.text


def test_who_shares_places():
    same = ("2001:db8::1", 9, 0, 0), ("2001:db8::ffff:0:0:2", 7, 0, 0)
    assert len({sockets.holder_of(each) for each in same}) == 1
    plain, mapped = ("192.0.2.1", 1), ("::ffff:192.0.2.1", 2, 0, 0)
    assert sockets.holder_of(plain) == sockets.holder_of(mapped) == "192.0.2.1"
    apart = (
        *(plain, same[0], ("192.0.2.2", 1), ("2001:db8:0:1::1", 9, 0, 0), "/run/a"),
        *(("fe80::1", 9, 0, 2), ("fe80::1", 9, 0, 3), ("fe80::2", 9, 0, 2)),
    )
    assert len({sockets.holder_of(each) for each in apart}) == len(apart)
    assert sockets.holder_of("/run/b") == sockets.holder_of(b"\0c") == sockets.holder_of("/run/a")


@asynccontextmanager
async def guarded(monkeypatch, kind="udp", **settings):
    """A listener of a managed switch, where clients move after a short silence."""
    monkeypatch.setattr(client_limit, "MOVE_SILENCE", 0.1)
    async with (
        serving(kind) as (switch, listener),
        switch.open_port("bot") as bot,
        trio.open_nursery() as nursery,
    ):
        managed = FeatureManager(switch, Settings().with_switch(settings))
        nursery.start_soon(managed.run)
        yield switch, listener, bot
        nursery.cancel_scope.cancel()


def kinds(switch):
    return {event.kind for event in switch.events.since()}


@pytest.mark.parametrize("guard", [False, True])
async def test_a_client_that_moves_takes_its_address_along(monkeypatch, guard):
    async with guarded(monkeypatch, guard=guard) as (switch, listener, bot):
        for _ in range(8):  # more than a station may move in that time
            async with UdpClient(address_of(listener)) as one:
                await one.send(frame(mac(1)))
                with trio.fail_after(5):
                    assert await bot.receive_frame() == frame(mac(1))
                await bot.send(frame(mac(2), mac(1)))
                assert await one.receive() == frame(mac(2), mac(1))
            await trio.sleep(0.15)
        assert len(switch.ports) == 2
        assert not {"mac-moved", "mac-frozen"} & kinds(switch)


@pytest.mark.parametrize("guard", [False, True])
async def test_a_client_takes_its_address_along_though_its_old_connection_is_open(
    monkeypatch, guard
):
    """As when its host has crashed, and nothing has closed the connection from before."""
    async with (
        guarded(monkeypatch, "tcp", guard=guard) as (switch, listener, bot),
        AsyncExitStack() as stack,
    ):
        for number in range(4):
            one = await stack.enter_async_context(TcpClient(address_of(listener)))
            await one.send(frame(mac(1), size=100 + number))
            with trio.fail_after(5):
                assert await bot.receive_frame() == frame(mac(1), size=100 + number)
            await bot.send(frame(mac(2), mac(1)))
            assert await one.receive() == frame(mac(2), mac(1))
            await trio.sleep(0.15)
        assert len(switch.ports) == 2
        assert not {"mac-moved", "mac-frozen"} & kinds(switch)


async def test_the_address_of_a_connection_that_speaks_is_not_taken(monkeypatch):
    async with (
        guarded(monkeypatch, "tcp", guard=True) as (switch, listener, bot),
        TcpClient(address_of(listener)) as rightful,
        TcpClient(address_of(listener)) as liar,
    ):
        monkeypatch.setattr(client_limit, "MOVE_SILENCE", 1000.0)
        await rightful.send(frame(mac(1)))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(1))
        await liar.send(frame(mac(1), size=100))
        await rightful.send(frame(mac(1), size=200))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(1), size=200)
        assert len(switch.ports) == 3


def ports_with(switch, client):
    """How many there are, once that client has one."""
    where = f":{client.sock.getsockname()[1]}"
    return any(port.name.endswith(where) for port in switch.ports) and len(switch.ports)


async def test_a_client_that_has_just_spoken_is_followed_a_moment_later(monkeypatch):
    async with guarded(monkeypatch, guard=True) as (switch, listener, bot):
        async with (
            UdpClient(address_of(listener)) as one,
            UdpClient(address_of(listener)) as two,
        ):
            await one.send(frame(mac(1)))
            await two.send(frame(mac(1)))
            await until(lambda: ports_with(switch, two) == 2)
            await two.send(frame(mac(1), size=100))
            with trio.fail_after(5):
                while (got := await bot.receive_frame()) == frame(mac(1)):
                    pass
            assert got == frame(mac(1), size=100)


async def test_the_address_of_a_client_that_speaks_is_not_taken(monkeypatch):
    async with (
        guarded(monkeypatch, guard=True) as (switch, listener, bot),
        UdpClient(address_of(listener)) as rightful,
        UdpClient(address_of(listener)) as liar,
    ):
        monkeypatch.setattr(client_limit, "MOVE_SILENCE", 1000.0)
        await rightful.send(frame(mac(1)))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(1))
        await liar.send(frame(mac(1), size=100))
        await until(lambda: len(switch.ports) == 3)
        await rightful.send(frame(mac(1), size=200))
        with trio.fail_after(5):
            assert await bot.receive_frame() == frame(mac(1), size=200)
        assert len(switch.ports) == 3


FAMILIES = {
    "IPv4 alone": ("127.0.0.1:0", [("::1", 9), ("127.0.0.2", 9)], "127.0.0.2"),
    "IPv6 alone": ("[::1]:0", [("127.0.0.2", 9), ("::1", 9)], "::1"),
    "both": (":0", [("127.0.0.2", 9), ("::1", 9)], "::ffff:127.0.0.2"),
}


@pytest.mark.parametrize(("listen", "found", "chosen"), FAMILIES.values(), ids=FAMILIES)
async def test_a_vxlan_peer_has_an_address_of_the_family_of_its_socket(
    listen, found, chosen, monkeypatch
):
    async def resolve(*_):
        return found

    monkeypatch.setattr(vxlan, "resolve", resolve)
    settings = [ForeignSettings(kind="vxlan", name="vx", listen=listen, remote="peer:9", vni=1)]
    async with open_switch() as switch, open_foreign(switch, settings):
        (port,) = switch.ports
        assert port.device.address[0] == chosen


async def test_a_vxlan_peer_without_such_an_address_is_refused_with_the_reason(monkeypatch):
    async def resolve(*_):
        return [("::1", 9)]

    monkeypatch.setattr(vxlan, "resolve", resolve)
    settings = [
        ForeignSettings(kind="vxlan", name="vx", listen="127.0.0.1:0", remote="peer:9", vni=1)
    ]
    with pytest.raises(ExceptionGroup) as caught:
        async with open_switch() as switch, open_foreign(switch, settings):
            pass
    assert caught.group_contains(VswitchError, match="peer has no address that a socket on")


async def test_a_fault_of_the_resolver_costs_its_port_alone(monkeypatch, caplog):
    monkeypatch.setattr(vxlan, "resolve", planted)
    settings = [
        ForeignSettings(kind="vxlan", name="bad", listen="127.0.0.1:0", remote="x:1", vni=1),
        ForeignSettings(kind="tcp", name="good", listen="127.0.0.1:0"),
    ]
    async with open_switch() as switch, open_foreign(switch, settings) as (bad, good):
        assert bad.refused == {"fault": 1}
        assert [event.kind for event in switch.events.since()] == ["listener-ended"]
        async with TcpClient(address_of(good)) as one:
            await one.send(frame(mac(1)))
            await until(lambda: known(switch) == {mac(1)})
    assert caplog.text.count("ZeroDivisionError: planted") == 1
