"""The hostile member: valid keys, a session, and then nothing that an honest program would say.

    python -m benchmarks.hostile.member ATTACK KEY_FILE SWITCH_KEY_IN_HEX ADDRESS PORT MBIT SECONDS

It has the cores of the transport and a socket of its own. When its session is ended it makes a new
one. Prints what it has sent and how its sessions ended, as JSON.

An attack is a function of the member that sends about so many bytes and gives how many; 0 where the
switch takes nothing just now. What goes through a lane keeps KCP's rules, but heeds no congestion;
the rest are sealed units that no honest program makes.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transport import Peer, PrivateKey, PublicKey, load_key_file
from transport.congestion.choice import CONTROLLERS, TransportConfig
from transport.congestion.controller import SentSegment
from transport.constants import KCP_HEADER_SIZE, RECEIVE_BATCH, RECEIVE_WINDOW, SLICE_SIZE, TAG_SIZE
from transport.crypto.cipher import conversation_number
from transport.crypto.noise import preferred_suite
from transport.endpoint.demux import Demux
from transport.handshake.initiator import Connected
from transport.session.session import Session
from transport.wire.control import Ping
from transport.wire.control import encode_control as encode_items
from transport.wire.datagrams import CONTROL, DATA
from transport.wire.trains import cut
from vswitch.addresses import MAX_GATEWAYS
from vswitch.frames.ethernet import BROADCAST, parse_mac
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import VIRTIO_HEADER
from vswitch.members.protocol import Hello, Welcome, encode_control

__all__ = ["ATTACKS", "Member"]

MAC = "02:00:00:00:00:66"
PATIENCE = 5.0  # s for a handshake, and for the welcome
BEFORE_ANOTHER = 0.2  # s after a session was ended
NAP = 0.001  # s while there is nothing to do
MOST_AT_ONCE = 128 * 1024  # bytes; what is later than that is sent later still
PUSH = 81  # ikcp.c: IKCP_CMD_PUSH
AHEAD = 100  # segments that stay missing: none of them is ever sent
PINGS = 15  # items of a control datagram, of which 16 are taken


class Greedy:
    """A congestion controller that heeds nothing. Implements `Controller`."""

    window = 8 * 1024 * 1024  # bytes
    pacing_rate = math.inf
    rtt = 0.02  # s
    loss = 0.0
    app_limited = False

    def __init__(self, now: float) -> None:
        pass

    def on_acknowledged(self, acked: Sequence[SentSegment], in_flight: int, now: float) -> None:
        pass

    def on_lost(self, lost: Sequence[SentSegment], now: float) -> None:
        pass


CONTROLLERS["greedy"] = Greedy


class Member:
    """One key, one socket, and one session at a time."""

    def __init__(self, identity: PrivateKey, switch: PublicKey, address: tuple[str, int]) -> None:
        self._peer = Peer(switch)
        self._address = address
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.connect(address)
        self._demux = Demux(
            identity,
            authority=None,
            now=time.monotonic(),
            random_bytes=os.urandom,
            timestamp_ns=time.time_ns,
            suite=preferred_suite(),
            config=TransportConfig(congestion="greedy"),
        )
        self.session: Session | None = None
        self.heard = False  # the switch has said something on the bulk lane
        self.sessions = 0
        self.ended: Counter[str] = Counter()  # sessions, by reason
        self.sent = 0  # bytes of UDP payload
        self._connect_at = 0.0
        self._rest = bytearray()  # of the record stream of this session, not yet sent
        self._filled: Session | None = None  # whose window `duplicates` has filled

    def close(self) -> None:
        self._sock.close()

    # --- As an honest member does it --------------------------------------------------------

    def turn(self, *, connect: bool = True) -> None:
        """Take what has come, do what is due, send what has to leave; see to a session."""
        now, demux, batch = time.monotonic(), self._demux, []
        with suppress(BlockingIOError, ConnectionRefusedError):
            for _ in range(RECEIVE_BATCH):
                batch.append((self._sock.recv(65_535), self._address))
        demux.receive_datagrams(batch, now)
        demux.handle_timeout(now)
        while (event := demux.next_event()) is not None:
            if isinstance(event, Connected):
                self.session, self.heard = event.session, False
                self._rest.clear()
                self.sessions += 1
                hello = Hello(mtu=1500, mac=MAC, offload=True, software="hostile")
                self.session.bulk.send([encode_control(hello)], now)
                demux.touch(self.session)
        session = self.session
        if session is not None:
            self.heard = bool(session.bulk.take_messages()) or self.heard
            session.sparse.take_messages()
            demux.touch(session)
            if session.ended is not None:
                self.ended[session.ended.reason] += 1
                self.session, self._connect_at = None, now + BEFORE_ANOTHER
        elif connect and now >= self._connect_at:
            self._connect_at = now + PATIENCE
            demux.connect(self._peer, self._address, now, now + PATIENCE)
        for train in demux.datagrams_to_send(now):
            for datagram in cut(train):
                self._send(datagram)
        demux.settle(now)

    def _send(self, datagram: bytes) -> None:
        with suppress(OSError):  # no room, or too long for the path: lost, as on any path
            self.sent += self._sock.send(datagram)

    # --- As it suits ------------------------------------------------------------------------

    def seal(self, kind: int, plaintext: bytes) -> int:
        """Send a unit of that type; its bytes on the wire."""
        assert self.session is not None
        sealer, before = self.session.keys.current.sealer, self.sent
        train, size = sealer.seal_unit(kind, plaintext, SLICE_SIZE)
        for datagram in cut((train, self._address, size)):
            self._send(datagram)
        return self.sent - before

    def say(self, records: bytes, size: int) -> int:
        """The records again and again on the bulk lane, as far as there is credit."""
        session, rest = self.session, self._rest
        assert session is not None
        room, step = min(size, session.bulk.credit), session.bulk.message_size
        if room <= 0:
            return 0
        count = -(-room // step)  # the last may be above the credit
        while len(rest) < step * count:
            rest += records
        messages = [bytes(rest[at : at + step]) for at in range(0, step * count, step)]
        del rest[: step * count]
        session.bulk.send(messages, time.monotonic())
        self._demux.touch(session)
        return step * count

    def again(self) -> bool:
        """Leave the session and shake hands anew; False while that is under way."""
        if self.session is None:
            return False
        self.session.fail(0, "another is made")
        self._demux.touch(self.session)
        self.session, self._connect_at = None, 0.0
        return True

    def fill(self) -> bool:
        """Once in a session: as many empty segments as fit the window, behind a gap."""
        if self._filled is self.session:
            return False
        self._filled = self.session
        for first in range(AHEAD, RECEIVE_WINDOW, 2000):
            last = min(first + 2000, RECEIVE_WINDOW)
            self.seal(DATA, b"".join(map(self.segment, range(first, last))))
        return True

    def segment(self, number: int) -> bytes:
        """An empty one."""
        assert self.session is not None
        conversation = conversation_number(self.session.keys.current.handshake_hash)
        return struct.pack("<IBBHIIII", conversation, PUSH, 0, RECEIVE_WINDOW, 0, number, 0, 0)


# --- The attacks -------------------------------------------------------------------------------

_WELCOME = encode_control(
    # Dear to check, and a switch's.
    Welcome("x", 1, gateways=["0.0.0.0/0 via 10.0.0.1 x"] * MAX_GATEWAYS, names=["::"] * 256)
)
_TINY = frame_record(b"") * 300
_LYING = encode_record(
    SUPERFRAME,  # 60 kB that say they are one frame
    bytes(VIRTIO_HEADER.size) + BROADCAST + parse_mac(MAC) + b"\x08\x00" + bytes(60_000),
)


def _pings(member: Member, size: int) -> int:
    return member.seal(CONTROL, encode_items(*[Ping(os.urandom(8))] * PINGS))


def _duplicates(member: Member, size: int) -> int:
    if member.fill():
        return RECEIVE_WINDOW * KCP_HEADER_SIZE
    assert member.session is not None
    most = (member.session.bulk.mtu - TAG_SIZE) // KCP_HEADER_SIZE
    return member.seal(DATA, member.segment(AHEAD) * most)


def _reconnect(member: Member, size: int) -> int:
    return 1000 if member.again() else 0


ATTACKS: dict[str, Callable[[Member, int], int]] = {
    "control": lambda member, size: member.say(_WELCOME, size),
    "pings": _pings,
    "duplicates": _duplicates,
    "tiny": lambda member, size: member.say(_TINY, size),
    "superframes": lambda member, size: member.say(_LYING, size),
    "reconnects": _reconnect,
}


def attack(member: Member, name: str, rate: float, seconds: float) -> dict[str, Any]:
    """So many bytes a second, for so long."""
    run, begun, given = ATTACKS[name], time.monotonic(), 0
    while (spent := time.monotonic() - begun) < seconds:
        member.turn()
        due = min(int(rate * spent) - given, MOST_AT_ONCE)
        done = 0
        while done < due and member.session is not None and member.heard:
            gave = run(member, due - done)
            done += gave
            if not gave:
                break
        given += done
        if not done:
            time.sleep(NAP)
    ended = dict(member.ended)  # by the switch, so far
    if member.session is not None:
        member.session.close(0, "", time.monotonic())
    member.turn(connect=False)
    return {
        "mbit": member.sent * 8 / 1e6 / seconds,
        "sessions": member.sessions,
        "ended": ended,
        "cpu_percent": 100 * time.process_time() / seconds,
    }


if __name__ == "__main__":
    name, key_file, switch, host, port, mbit, seconds = sys.argv[1:]
    hostile = Member(
        load_key_file(Path(key_file)), PublicKey(bytes.fromhex(switch)), (host, int(port))
    )
    print(json.dumps(attack(hostile, name, float(mbit) * 1e6 / 8, float(seconds))))
    hostile.close()
