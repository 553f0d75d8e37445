"""How much: whole numbers, MTUs, sizes, rates and durations, of text such as 50M, 10k or 24h.

Error contract: as in words.py.
"""

from __future__ import annotations

import re
from enum import Enum
from math import inf

from vswitch.config.words import to_text
from vswitch.frames.ethernet import MAX_MTU, MIN_MTU

_CONNECTIONS_LIMIT = 65536
_MEMBERS_LIMIT = 65536  # far beyond what one process can carry; keeps mistakes out
_LOG_SIZE_RANGE = (10_000, 10**12)  # bytes
_LOG_DAYS_LIMIT = 3650
_FRAMES_LIMIT = 1_000_000_000  # a second: far beyond any
_RATE_LIMIT = 1e12  # a second
_DURATION_LIMIT = 366 * 86400.0  # s
_MAC_LIMIT_RANGE = (1, 8192)  # up to the capacity of the FDB
_WHOLE = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kmg]?) ?([a-z/]*)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12}) ?([kmg]?)b?", re.ASCII)
_THOUSANDS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_BITS = ("", "bit", "bit/s", "bps")
_FRAMES = ("", "/s", "fps", "frames/s")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(us|ms|s|m|h|d)", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def whole(value: object, low: int, high: int) -> int:
    """A whole number of this range, both ends included."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    # bool is an int to Python, not to whoever wrote `mtu = true`.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    if not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def to_mtu(value: int | str) -> int:
    """Bytes of payload of the largest Ethernet frame."""
    return whole(value, MIN_MTU, MAX_MTU)


def to_optional_mtu(value: int | str | None) -> int | None:
    """As `to_mtu`; None means what the switch says."""
    return None if value is None else to_mtu(value)


def to_member_limit(value: int | str) -> int:
    """How many members a switch may have."""
    return whole(value, 1, _MEMBERS_LIMIT)


def to_mac_limit(value: int | str | None) -> int | None:
    """How many stations a port may have; None for what is usual for a port of its kind."""
    return None if value is None else whole(value, *_MAC_LIMIT_RANGE)


def to_connection_limit(value: int | str) -> int:
    """How many connections or UDP associations a proxy has at once."""
    return whole(value, 1, _CONNECTIONS_LIMIT)


def to_optional_connection_limit(value: int | str | None) -> int | None:
    """As `to_connection_limit`; `off` for None."""
    return None if value is None or value == "off" else to_connection_limit(value)


class Share(Enum):
    """What one of many has where nobody says how much."""

    FAIR = "fair"


def to_share(value: str | int | Share | None) -> int | Share | None:
    """As `to_optional_connection_limit`."""
    return value if isinstance(value, Share) else to_optional_connection_limit(value)


def to_log_days(value: int | str) -> int:
    """How many old log files are kept; 0 keeps all."""
    return whole(value, 0, _LOG_DAYS_LIMIT)


def to_log_size(value: int | str) -> int:
    """Bytes at which a log file is put aside, such as 500k, 10M or 1G; 0 for no limit."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.lower())
        if match is None:
            raise ValueError("write a size such as 500k, 10M or 1G, or 0")
        value = int(match[1]) * int(_THOUSANDS[match[2]])
    return value if value == 0 else whole(value, *_LOG_SIZE_RANGE)


def _per_second(
    value: object, low: float, high: float, units: tuple[str, ...], example: str
) -> float | None:
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    if isinstance(value, str):
        match = _RATE.fullmatch(value.lower())
        if match is None or match[3] not in units:
            raise ValueError(f"write a rate such as {example}, or off")
        value = float(match[1]) * _THOUSANDS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, or text such as {example}")
    if not low <= value <= high:
        raise ValueError(f"must be {low:g} to {high / 1e9:g}G")
    return float(value)


def to_rate(value: int | float | str | None) -> float | None:
    """Bits a second: a number, or text such as 500k, 50M, 1.5 Gbit/s; `off` for no limit."""
    return _per_second(value, 1, _RATE_LIMIT, _BITS, "500k, 50M or 1.5 Gbit/s")


def to_frame_rate(value: int | float | str | None) -> float | None:
    """Frames a second: a number, or text such as 10k; `off` for no limit."""
    return _per_second(value, 1, _RATE_LIMIT, _FRAMES, "500 or 10k")


def to_frame_limit(value: int | float | str | None) -> int | None:
    """Whole frames or copies a second, `off` for no limit; 0 lets nothing through."""
    rate = _per_second(value, 0, _FRAMES_LIMIT, _FRAMES, "500 or 10k")
    if rate is not None and not rate.is_integer():
        raise ValueError("must be a whole number, or off")
    return None if rate is None else int(rate)


def to_connection_rate(value: int | float | str | None) -> float | None:
    """New connections or UDP clients a second; `off` for no limit."""
    return _per_second(value, 0.01, _FRAMES_LIMIT, _FRAMES, "5 or 0.5")


def to_seconds(value: str | float) -> float:
    """Seconds, of `250us`, `40ms`, `30s`, `10m`, `24h` or `7d`, or as a number."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(to_text(value))
    if match is None:
        raise ValueError("write a duration such as 30s, 10m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def to_duration(value: str | float) -> float:
    """As `to_seconds`, from one second to 366 days."""
    seconds = to_seconds(value)
    if not 1 <= seconds <= _DURATION_LIMIT:
        raise ValueError("must be 1s to 366d")
    return seconds


def to_optional_duration(value: str | float | None) -> float | None:
    """As `to_duration`; `off` for None."""
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    return to_duration(value)


def to_duration_or_off(value: str | float) -> float:
    """As `to_duration`; `off` for what is infinite."""
    seconds = None if value == inf else to_optional_duration(value)
    return inf if seconds is None else seconds
