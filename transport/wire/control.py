"""Control items: what two sessions tell each other beside the data. docs/wire-format.md.

They travel sealed in datagrams of their own type, unreliable and idempotent: a lost one is asked
again, a repeated one changes nothing. `decode_control_untrusted` raises `BadPacket` and nothing
else; what it returns was authentic but may still be anything that the peer likes to say.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen

from transport.constants import MAX_CLOSE_REASON, MAX_CONTROL_ITEMS
from transport.errors import BadPacket


class CloseCode(enum.IntEnum):
    """Why a session ended. Numbers from 5 on belong to the program above."""

    NORMAL = 0
    SHUTDOWN = 1
    REPLACED = 2
    PROTOCOL = 3
    TIMEOUT = 4


@frozen
class PathChallenge:
    data: bytes  # 8 bytes, unpredictable


@frozen
class PathResponse:
    data: bytes  # the challenge's 8 bytes


@frozen
class Close:
    code: int
    reason: str


@frozen
class Ping:
    data: bytes  # 8 bytes


@frozen
class Pong:
    data: bytes  # the ping's 8 bytes


@frozen
class MtuProbe:
    """Answered with the size of the datagram that carried it."""

    epoch: int  # of the search that it belongs to
    padding: int = 0  # bytes; whatever they are


@frozen
class MtuAck:
    size: int  # bytes of the probe's datagram, as it came
    epoch: int  # the probe's


@frozen
class Arrivals:
    """How much has come, while anything comes on the datagram lane; since the session began."""

    received: int  # sealed units that have opened
    expected: int  # that were sealed, by the newest counters; never fewer


@frozen
class Rekey:
    """The responder asks for a new handshake; only the initiator starts one."""


ControlItem = (
    PathChallenge | PathResponse | Close | Ping | Pong | MtuProbe | MtuAck | Rekey | Arrivals
)

_EIGHT_BYTES: dict[int, type[PathChallenge | PathResponse | Ping | Pong]] = {
    1: PathChallenge,
    2: PathResponse,
    4: Ping,
    5: Pong,
}
_NUMBERS = {PathChallenge: 1, PathResponse: 2, Ping: 4, Pong: 5}
_CLOSE, _MTU_PROBE, _MTU_ACK, _REKEY, _ARRIVALS = 3, 6, 7, 8, 9
MTU_PROBE_SIZE: Final = 3 + 4  # bytes of a probe item without padding


def encode_control(*items: ControlItem) -> bytes:
    """Items as `type u8 | length u16 | value`, one behind the other. Total: a number that its field
    does not hold becomes the largest that it does.
    """
    out = bytearray()
    for item in items:
        match item:
            case Close(code, reason):
                number = _CLOSE
                text = reason.encode(errors="replace")[:MAX_CLOSE_REASON]
                value = _clamped(code, 2) + text.decode(errors="ignore").encode()
            case MtuProbe(epoch, padding):
                number, value = _MTU_PROBE, _clamped(epoch, 4) + bytes(padding)
            case MtuAck(size, epoch):
                number = _MTU_ACK
                value = _clamped(size, 2) + _clamped(epoch, 4)
            case Rekey():
                number, value = _REKEY, b""
            case Arrivals(received, expected):
                number = _ARRIVALS
                value = _clamped(received, 8) + _clamped(expected, 8)
            case _:
                number, value = _NUMBERS[type(item)], item.data
        out += bytes((number,)) + len(value).to_bytes(2, "little") + value
    return bytes(out)


def _clamped(number: int, size: int) -> bytes:
    return min(max(number, 0), (1 << 8 * size) - 1).to_bytes(size, "little")


def decode_control_untrusted(plaintext: bytes) -> list[ControlItem]:
    """The known items of a control datagram; unknown types are skipped, their length is not."""
    items: list[ControlItem] = []
    at = seen = 0
    while at < len(plaintext):
        seen += 1
        value_at = at + 3
        if seen > MAX_CONTROL_ITEMS or value_at > len(plaintext):
            raise BadPacket("bad_control")
        number = plaintext[at]
        at = value_at + int.from_bytes(plaintext[at + 1 : value_at], "little")
        if at > len(plaintext):
            raise BadPacket("bad_control")
        value = plaintext[value_at:at]
        if number in _EIGHT_BYTES:
            if len(value) != 8:
                raise BadPacket("bad_control")
            items.append(_EIGHT_BYTES[number](value))
        elif number == _CLOSE:
            if not 2 <= len(value) <= 2 + MAX_CLOSE_REASON:
                raise BadPacket("bad_control")
            # What a peer says ends in our log: nothing but printable characters of it.
            text = value[2:].decode(errors="replace")
            reason = "".join(c if c.isprintable() else "?" for c in text)
            items.append(Close(int.from_bytes(value[:2], "little"), reason))
        elif number == _MTU_PROBE:
            if len(value) < 4:
                raise BadPacket("bad_control")
            items.append(MtuProbe(int.from_bytes(value[:4], "little"), len(value) - 4))
        elif number == _MTU_ACK:
            if len(value) != 6:
                raise BadPacket("bad_control")
            size, epoch = (int.from_bytes(part, "little") for part in (value[:2], value[2:]))
            items.append(MtuAck(size, epoch))
        elif number == _REKEY:
            items.append(Rekey())
        elif number == _ARRIVALS:
            if len(value) != 16:
                raise BadPacket("bad_control")
            received, expected = (int.from_bytes(part, "little") for part in (value[:8], value[8:]))
            if received > expected:
                raise BadPacket("bad_control")
            items.append(Arrivals(received, expected))
    return items
