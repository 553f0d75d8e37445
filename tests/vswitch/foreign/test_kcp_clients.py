"""KCP clients of a foreign listener, written from the description of the format alone."""

import socket
import struct
from contextlib import asynccontextmanager

import pytest
import trio

from tests.netns.foreign_client import Kcp
from vswitch.addresses import HostPort
from vswitch.foreign import client_limit, conversations
from vswitch.foreign.conversations import LONGEST, WINDOW
from vswitch.foreign.kcp_clients import connect_kcp
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.serve import open_foreign
from vswitch.frames.records import frame_of, frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import ethernet

A, B = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
CONV = 0x8000_0001


def frame(source, target=b"\xff" * 6, size=60):
    return ethernet(target, source, 0x88B5, bytes(size - 14))


def push(data, *, conv=CONV, number=0, una=0, fragment=0):
    return struct.pack("<IBBHIIII", conv, 81, fragment, 32, 7, number, una, len(data)) + data


def record(data):
    return b"\xbc\xbc" + struct.pack(">H", len(data)) + data


@asynccontextmanager
async def serving(**options):
    settings = ForeignSettings(**{"kind": "kcp", "name": "lab", "listen": "127.0.0.1:0", **options})
    async with (
        open_switch() as switch,
        open_foreign(switch, [settings]) as (listener,),
        switch.open_port("bot") as bot,
    ):
        yield switch, listener, bot


class Client:
    """One conversation over a socket of its own."""

    def __init__(self, listener, conv=CONV):
        self.where = HostPort.parse(listener.listen)
        self.kcp = Kcp(conv, self.send_raw)
        self.data = b""

    def __enter__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.connect((self.where.host, self.where.port))
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send_raw(self, datagram):
        self.sock.send(datagram)

    def send(self, data):
        self.kcp.write(record(data), trio.current_time())

    async def receive(self):
        with trio.fail_after(30):
            while len(self.data) < 4 or len(self.data) < 4 + int.from_bytes(self.data[2:4], "big"):
                with trio.move_on_after(Kcp.FLUSH):
                    await trio.lowlevel.wait_readable(self.sock)
                    self.data += self.kcp.receive(self.sock.recv(65536), trio.current_time())
                self.kcp.tick(trio.current_time())
        end = 4 + int.from_bytes(self.data[2:4], "big")
        found, self.data = self.data[4:end], self.data[end:]
        return found


async def until(condition):
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 (sockets set no event)
            await trio.sleep(0.005)


async def test_two_clients_and_a_port_of_the_program_reach_each_other():
    async with serving() as (switch, listener, bot):
        with Client(listener) as one, Client(listener, 7) as two:
            one.send(frame(A))
            assert await bot.receive_frame() == frame(A)
            two.send(frame(B, A, 1514))
            assert await one.receive() == frame(B, A, 1514)
            one.send(frame(A, B, 1514))
            assert await two.receive() == frame(A, B, 1514)
            for number in range(300):
                await bot.send(frame(B[:5] + b"\x0c", A, 100 + number))
            for number in range(300):
                assert await one.receive() == frame(B[:5] + b"\x0c", A, 100 + number)
        assert {port.name.split("-")[0] for port in switch.ports} == {"bot", "lab"}


async def test_what_opens_no_conversation_makes_no_client_and_is_counted():
    async with serving() as (switch, listener, _):
        with Client(listener) as one:
            whole = push(record(frame(A)))
            acknowledgement = struct.pack("<IBBHIIII", CONV, 82, 0, 32, 7, 0, 0, 0)
            other = push(b"x", conv=CONV + 1)
            bad = [b"", b"x", whole[:-1], whole + b"x", acknowledgement, whole + other]
            bad += [
                push(b"x", fragment=WINDOW),
                push(bytes(LONGEST)),
                whole[:4] + b"\x50" + whole[5:],
            ]
            for datagram in bad:
                one.send_raw(datagram)
            await until(lambda: listener.refused["no_conversation"] == len(bad))
            assert len(switch.ports) == 1


async def test_a_conversation_that_is_older_than_the_switch_goes_on():
    """Where kcp-go's own server would wait for its first segment for ever."""
    async with serving() as (_, listener, bot):
        with Client(listener) as one:
            one.kcp.number, one.kcp.awaited = 0xFFFF_FFFF, 5000
            one.send(frame(A))
            assert await bot.receive_frame() == frame(A)
            one.send(frame(A, B))
            assert await bot.receive_frame() == frame(A, B)
            await bot.send(frame(B, A))
            assert await one.receive() == frame(B, A)


async def test_a_client_that_moves_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(client_limit, "MOVE_SILENCE", 0.2)
    async with serving() as (switch, listener, bot):
        with Client(listener) as one, Client(listener) as other:
            one.send(frame(A))
            await bot.receive_frame()
            other.send_raw(push(record(frame(A)), number=1))
            await until(lambda: listener.refused["conversation_taken"] == 1)
            await trio.sleep(0.3)
            one.sock, other.sock = other.sock, one.sock
            one.send(frame(A, B))
            assert await bot.receive_frame() == frame(A, B)
            await bot.send(frame(B, A))
            assert await one.receive() == frame(B, A)
            assert len(switch.ports) == 2


async def test_a_client_that_is_started_again_takes_its_place(monkeypatch):
    monkeypatch.setattr(client_limit, "MOVE_SILENCE", 0.2)
    async with serving(max_ports=1) as (switch, listener, bot):
        with Client(listener) as one:
            one.send(frame(A))
            await bot.receive_frame()
            await trio.sleep(0.3)
            one.kcp = Kcp(CONV + 1, one.send_raw)
            one.send(frame(A, B))
            assert await bot.receive_frame() == frame(A, B)
            assert len(switch.ports) == 2


async def test_a_client_that_is_started_again_elsewhere_takes_its_mac_address_along(monkeypatch):
    monkeypatch.setattr(client_limit, "MOVE_SILENCE", 0.2)
    async with serving() as (switch, listener, bot):
        with Client(listener) as one, Client(listener, CONV + 1) as two:
            one.send(frame(A))
            assert await bot.receive_frame() == frame(A)
            two.send(frame(A, B))
            assert await bot.receive_frame() == frame(A, B)
            await until(lambda: len(switch.ports) == 2)
            await bot.send(frame(B, A))
            assert await two.receive() == frame(B, A)


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("127.0.0.2", marks=pytest.mark.linux)])
async def test_answers_leave_from_the_address_that_was_asked(host):
    async with serving(listen="0.0.0.0:0") as (_, listener, bot):
        client = Client(listener)
        client.where = HostPort(host, client.where.port)
        with client as one:  # hears that address alone
            one.send(frame(A))
            assert await bot.receive_frame() == frame(A)
            await bot.send(frame(B, A))
            assert await one.receive() == frame(B, A)


async def test_places_are_bounded():
    async with serving(max_ports=2) as (switch, listener, _):
        with Client(listener, 1) as one, Client(listener, 2) as two, Client(listener, 3) as three:
            for each in (one, two, three):
                each.send(frame(A))
            await until(lambda: listener.refused["ports_taken"] == 1)
            assert len(switch.ports) == 3


@pytest.mark.parametrize("owes", [False, True], ids=["silent", "acknowledges nothing"])
async def test_silence_is_the_end(monkeypatch, owes):
    monkeypatch.setattr(conversations, "UNANSWERED", 0.3 if owes else 1000.0)
    async with serving(idle=1000 if owes else 1) as (switch, listener, bot):
        with Client(listener) as one:
            one.send(frame(A))
            await bot.receive_frame()
            if owes:
                await bot.send(frame(B, A))
            await until(lambda: len(switch.ports) == 1)
            assert not listener.refused


async def test_something_else_in_a_conversation_is_its_end(caplog):
    caplog.set_level("INFO")
    async with serving() as (_, listener, _):
        with Client(listener) as one:
            for number in range(20):
                one.send_raw(push(b"\xbc\xbc\0\x01x" * 200, number=number))
            await until(lambda: "port-down" in caplog.text)
            assert "something else is sent" in caplog.text
            assert "Traceback" not in caplog.text


async def test_a_client_of_ours_with_somebody_elses_listener():
    """It makes the number up, begins at zero, and hears its listener alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        where = HostPort(*sock.getsockname())
        async with connect_kcp(where, None, 1500) as device:
            device.write_nowait([frame_record(frame(A, B, 1514))])
            with trio.fail_after(30):
                await trio.lowlevel.wait_readable(sock)
            first, address = sock.recvfrom(2000)
            conv, number, una = struct.unpack_from("<I8xII", first)
            assert (number, una, len(first)) == (0, 0, 1400)
            assert first[4:8] == bytes((81, 0, 32, 0))
            kcp = Kcp(conv, lambda datagram: sock.sendto(datagram, address))
            data = kcp.receive(first, 0.0)
            with trio.fail_after(30):
                while len(data) < 1518:
                    kcp.flush(trio.current_time())
                    await trio.lowlevel.wait_readable(sock)
                    data += kcp.receive(sock.recv(2000), 0.0)
            assert data == record(frame(A, B, 1514))
            other = push(record(frame(B, A)), conv=conv ^ 1)
            sock.sendto(other, address)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(push(record(frame(B, A)), conv=conv), address)
            kcp.write(record(frame(B, A)), 0.0)
            with trio.fail_after(30):
                await device.wait_readable()
            assert [frame_of(each) for each in device.read_nowait(64)] == [frame(B, A)]
            assert device.dropped["unknown_peer"] == 2
