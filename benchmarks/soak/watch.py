"""Eyes on what no station sees: nonces, datagrams, a stranger, and what is left behind.

I5 nothing is left behind; I6 no nonce twice under a key, nothing in clear; I7 strangers hear no
more than they may; I8 nothing in the log that is an error.
"""

from __future__ import annotations

import gc
import logging
import os
import random
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

import transport.crypto.cipher as cipher
from benchmarks.soak.ledger import MARK, Ledger
from transport.constants import AMPLIFICATION
from transport.wire.datagrams import Suite

__all__ = ["Leftovers", "Log", "Stranger", "Tap", "watched_nonces"]

DATA = 4  # first byte of a datagram that carries frames
KEPT = 200  # datagrams for the stranger to send again
PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watched_nonces(ledger: Ledger) -> Iterator[None]:
    """I6: each key that seals must be given counters that grow, whoever holds it."""
    real, last = cipher.aead, {}  # key → its last nonce

    class Watched:
        def __init__(self, suite, key):
            self._cipher, self._key = real(suite, key), bytes(key)
            self._order = "big" if suite is Suite.AESGCM else "little"
            self.decrypt = self._cipher.decrypt

        def encrypt(self, nonce, data, associated):
            number = int.from_bytes(nonce[4:], self._order)
            if number <= last.get(self._key, -1):
                ledger.breach("I6", f"nonce {nonce.hex()} again")
            last[self._key] = number
            ledger.counts["keys"] = len(last)
            ledger.counts["units sealed"] += 1
            return self._cipher.encrypt(nonce, data, associated)

    cipher.aead = Watched
    try:
        yield
    finally:
        cipher.aead = real


class Tap:
    """On all wires: reads what passes, cuts addresses off, and remembers some for later."""

    def __init__(self, network, ledger: Ledger, rng: random.Random) -> None:
        self.cut_from: Counter[str] = Counter()  # addresses that nothing leaves
        self.cut_to: Counter[str] = Counter()
        self.captured: deque[tuple[bytes, tuple[str, int]]] = deque(maxlen=KEPT)
        self._ledger, self._random = ledger, rng
        self._carry = network.carry
        network.carry = self.carry

    def carry(self, datagram: bytes, source, destination) -> None:
        counts = self._ledger.counts
        counts["datagrams"] += 1
        if MARK in datagram:
            self._ledger.breach("I6", f"a frame in clear, from {source} to {destination}")
        if self.cut_from[source[0]] or self.cut_to[destination[0]]:
            counts["datagrams cut off"] += 1
            return
        if source[0].startswith("10.") and self._random.random() < 0.02:
            self.captured.append((bytes(datagram), source))
        self._carry(datagram, source, destination)

    def inject(self, datagram: bytes, source, destination) -> None:
        """A datagram with a forged source."""
        self._carry(datagram, source, destination)


class Stranger:
    """I7: sends garbage, and what it has seen, from its own address and from others'."""

    def __init__(self, network, tap: Tap, server, ledger: Ledger, rng: random.Random) -> None:
        self._socket = network.socket("203.0.113.66", 6666)
        self._tap, self._server, self._ledger, self._random = tap, server, ledger, rng
        self._spent = self._gained = 0

    async def run(self) -> None:
        rng = self._random
        while True:
            await trio.sleep(rng.expovariate(3.0))
            data = bytes([rng.randrange(256)]) + rng.randbytes(rng.choice([0, 31, 59, 107, 1199]))
            if self._tap.captured and rng.random() < 0.6:
                data, source = rng.choice(self._tap.captured)
                if rng.random() < 0.4:
                    self._tap.inject(data, source, self._server)
                    self._ledger.counts["replays from their own address"] += 1
                    continue
            self._spent += len(data)
            self._ledger.counts["stranger's datagrams"] += 1
            self._tap.carry(data, self._socket.local_address, self._server)
            for answer, _, _ in self._answers():
                self._gained += len(answer)
                self._ledger.counts["answers to the stranger"] += 1
                if answer[0] == DATA:
                    self._ledger.breach("I7", "frames for a stranger")

    def _answers(self):
        try:
            return self._socket.receive_nowait(KEPT)
        except trio.WouldBlock:
            return []

    def check(self) -> None:
        if self._gained > AMPLIFICATION * self._spent:
            self._ledger.breach("I7", f"{self._gained} bytes for {self._spent}")


class Log(logging.Handler):
    """I8: what the switch and its members log must be no error."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.WARNING)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        self._ledger.counts["log lines"] += 1
        if record.levelno >= logging.ERROR:
            self._ledger.breach("I8", record.getMessage())

    @contextmanager
    def listening(self) -> Iterator[None]:
        loggers = [logging.getLogger(name) for name in ("transport", "vswitch")]
        for each in loggers:
            each.addHandler(self)
        try:
            yield
        finally:
            for each in loggers:
                each.removeHandler(self)


@attrs.frozen
class Leftovers:
    """I5: what a process has when all is quiet and everybody is there."""

    tasks: int
    fds: int
    objects: int
    resident: float  # MiB

    @classmethod
    def now(cls) -> Leftovers:
        gc.collect()
        return cls(
            tasks=trio.lowlevel.current_statistics().tasks_living,
            fds=len(os.listdir("/proc/self/fd")),
            objects=len(gc.get_objects()),
            resident=int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20,
        )
