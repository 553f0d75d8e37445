"""Traffic that does harm, as a program of its own in a lab host, bounded in time.

    python -m benchmarks.faults.sources flood SWITCH_ADDRESS PORT KEY_IN_HEX RATE SECONDS
    python -m benchmarks.faults.sources mixed SWITCH_ADDRESS PORT KEY_IN_HEX RATE SECONDS
    python -m benchmarks.faults.sources hybrid SWITCH_ADDRESS PORT KEY_IN_HEX RATE SECONDS
    python -m benchmarks.faults.sources slices SWITCH_ADDRESS PORT KEY_IN_HEX RATE SECONDS
    python -m benchmarks.faults.sources spray ADDRESS PORT SIZE RATE SECONDS

flood: handshake initiations with a valid mac1 and made-up sources in 10.0.0.0/8, as anybody can
make them who has seen an invite. All are made beforehand and leave many at a call (volley.py): what
the source needs of the machine, nobody else has. mixed: the same, and half of them have a made-up
proof of address. hybrid: of the form with ML-KEM-768. slices: parts of those. spray: datagrams,
also to a broadcast address. All print a line when they begin, and how many they have sent when
their time is over or SIGTERM comes.
"""

from __future__ import annotations

import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

from benchmarks.faults.volley import Volley
from transport import Peer, PrivateKey
from transport.crypto.identity import PublicKey
from transport.handshake.cookie import MAC_BYTES, MacStamper
from transport.handshake.messages import Initiation
from transport.wire.datagrams import INIT_SLICE, InitPayload, Suite, cut_handshake

DIFFERENT = 256  # initiations, each with a key of its own
ADDRESSES = 32_768  # that they come from: more than the switch keeps limits for
LONGEST = 120.0  # seconds; no source runs longer, whatever it is told
MOST_AT_ONCE = 128  # half of what a veth's ring holds
NAP = 0.001  # s: 20 datagrams at 20,000 a second, and few wake-ups


def paced(send: Callable[[int, int], None], rate: float, seconds: float) -> int:
    """Call `send(first, count)` so that so many leave; what is late by more than a moment is left
    out. How many have left.
    """
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    print("begun", flush=True)
    begun, sent, skipped = time.perf_counter(), 0, 0
    while (spent := time.perf_counter() - begun) < min(seconds, LONGEST) and not stopped:
        due = int(spent * rate) - sent - skipped
        if due <= 0:
            time.sleep(NAP)
            continue
        skipped += max(0, due - MOST_AT_ONCE)
        count = min(due, MOST_AT_ONCE)
        send(sent, count)
        sent += count
    return sent


def initiations(key: PublicKey, kind: str) -> list[bytes]:
    """What strangers send who know the switch's public key."""
    payload = InitPayload(timestamp_ns=time.time_ns(), cookie_echo=bytes(16), receive_window=128)
    found = []
    for index in range(1, DIFFERENT + 1):
        stamper, own = MacStamper(key.raw), PrivateKey.generate()
        hybrid = kind in ("hybrid", "slices")
        initiation = Initiation(own, Peer(key), Suite.CHACHAPOLY, index, hybrid=hybrid)
        init = stamper.stamp(initiation.init(payload), 0.0)
        if kind == "slices":
            pieces = cut_handshake(INIT_SLICE, index, index.to_bytes(8, "little"), init)
            init = stamper.stamp(pieces[index % len(pieces)].encode(), 0.0)
        found.append(init)
    return found


def flood(address: str, port: int, key: PublicKey, rate: float, seconds: float, kind: str) -> int:
    target, rng = socket.inet_aton(address), random.Random(1)
    inits = initiations(key, kind)
    if kind == "mixed":
        inits[::2] = [each[:-MAC_BYTES] + rng.randbytes(MAC_BYTES) for each in inits[::2]]
    bodies = [
        struct.pack(">HHHH", 40_000 + n, port, 8 + len(data), 0) + data
        for n, data in enumerate(inits)
    ]
    packets = []
    for number in range(ADDRESSES):
        body = bodies[number % DIFFERENT]
        source = b"\x0a" + rng.randbytes(2) + bytes([rng.randrange(1, 255)])
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0)
        packets.append(head + source + target + body)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.connect((address, 0))
        return paced(Volley(sock, packets).send, rate, seconds)


def spray(address: str, port: int, size: int, rate: float, seconds: float) -> int:
    payload = random.Random(1).randbytes(size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

        def send(_: int, count: int) -> None:
            for _ in range(count):
                try:
                    sock.sendto(payload, (address, port))
                except OSError:
                    pass  # lost on the way, as any other

        return paced(send, rate, seconds)


def main(kind: str, address: str, port: str, what: str, rate: str, seconds: str) -> None:
    if kind in ("flood", "mixed", "hybrid", "slices"):
        key = PublicKey(bytes.fromhex(what))
        sent = flood(address, int(port), key, float(rate), float(seconds), kind)
    else:
        sent = spray(address, int(port), int(what), float(rate), float(seconds))
    print(sent, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
