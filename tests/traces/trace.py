"""The trace of one run, and the seed in place of the system's randomness while it lasts."""

import hashlib
import random
import secrets
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import attrs

from transport import PrivateKey
from vswitch.frames import flows

# Written as when the traces were recorded.
LATER_NAMES = ("hybrid",)  # which there were not
RECORDED_NAMES = {f"datagram_{what}": f"loose_{what}" for what in ("sent", "received", "lost")}


def digest(data: bytes) -> str:
    """What stands for some bytes in a line."""
    return hashlib.sha256(data).hexdigest()[:12]


def written(value: object) -> str:
    """The same text for the same value in every process and version of Python."""
    if isinstance(value, float):
        return f"{value:.9f}"  # of seconds: nanoseconds
    if isinstance(value, bytes):
        return digest(value)
    if isinstance(value, Mapping):
        return "{" + " ".join(sorted(f"{k}={written(v)}" for k, v in value.items())) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + " ".join(map(written, value)) + ")"
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        inside = (
            f"{RECORDED_NAMES.get(each.name, each.name)}={written(getattr(value, each.name))}"
            for each in fields
            if each.name not in LATER_NAMES
        )
        return f"{type(value).__name__}({' '.join(inside)})"
    return str(value)


class Trace:
    """Lines, in the order in which things happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *facts: object) -> None:
        self.lines.append(" ".join(map(written, facts)))

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Keys of handshakes and random names come from a seed, so all bytes are the same each time.

    Which flows share a bucket of an egress queue is salted in each process; here it is not.
    """
    rng = random.Random(seed)

    def generate() -> PrivateKey:
        return PrivateKey.from_raw(rng.randbytes(32))

    with (
        mock.patch.object(PrivateKey, "generate", generate),
        mock.patch.object(secrets, "token_bytes", rng.randbytes),
        mock.patch.object(flows, "hash", lambda flow: zlib.crc32(repr(flow).encode()), create=True),
    ):
        yield
