"""A question about a frame that nobody has sent: `in=pc1 dst=02:00:00:00:00:0b vlan=10 type=arp`.

    in     name or number of the port; must be there
    dst    MAC address, or `broadcast`
    src    MAC address; without it, 02:00:00:00:00:fe, a station that nobody is
    vlan   0 to 4095, a tag; without it, none
    type   EtherType, 0x88b5 or ip, ip6, arp and so on; without it, ip
    size   bytes of the frame; without it, 60; the payload is zeros
    hex    the whole frame instead of all these but `in`, as digits with or without : between

Pure. `parse_trace_untrusted` raises `ValueError` with the reason.
"""

from __future__ import annotations

import attrs

from vswitch.frames.ethernet import BROADCAST, ETHERNET_HEADER_SIZE, TAG_SIZE, parse_mac
from vswitch.frames.headers import ETHERTYPES

MAX_FRAME = 16384  # bytes: beyond any MTU, so that one too long can be asked about
NOBODY = bytes.fromhex("0200000000fe")
_DEFAULT_SIZE = 60
_KEYS = ("in", "dst", "src", "vlan", "type", "size", "hex")


@attrs.frozen
class Question:
    """What would happen to this frame, coming in there?"""

    port: str
    frame: bytes


def parse_trace_untrusted(text: str) -> Question:
    """The question that a text is."""
    if len(text) > 3 * MAX_FRAME:
        raise ValueError("too long")
    said: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not equals or key not in _KEYS:
            raise ValueError(f"{word[:40]!r}: write KEY=VALUE, with one of {', '.join(_KEYS)}")
        if key in said:
            raise ValueError(f"{key} is there twice")
        said[key] = value
    port = said.pop("in", "")
    if not port:
        raise ValueError("say on which port it comes in: in=NAME")
    if "hex" in said:
        digits = said.pop("hex").replace(":", "")
        if said:
            raise ValueError(f"{next(iter(said))} is part of the frame: hex and in stand alone")
        try:
            frame = bytes.fromhex(digits)
        except ValueError:
            raise ValueError("hex: not an even number of hexadecimal digits") from None
        if not 1 <= len(frame) <= MAX_FRAME:
            raise ValueError(f"hex: 1 to {MAX_FRAME} bytes")
        return Question(port, frame)
    if "dst" not in said:
        raise ValueError("say where it goes: dst=MAC, or dst=broadcast")
    destination = BROADCAST if said["dst"] == "broadcast" else parse_mac(said["dst"])
    head = destination + (parse_mac(said["src"]) if "src" in said else NOBODY)
    if "vlan" in said:
        head += b"\x81\x00" + _number("vlan", said["vlan"], 0, 0xFFF).to_bytes(2, "big")
    kind = said.get("type", "ip")
    number = ETHERTYPES[kind] if kind in ETHERTYPES else _number("type", kind, 0, 0xFFFF)
    head += number.to_bytes(2, "big")
    least = ETHERNET_HEADER_SIZE + TAG_SIZE * ("vlan" in said)
    size = _number("size", said.get("size", str(_DEFAULT_SIZE)), least, MAX_FRAME)
    return Question(port, head + bytes(size - len(head)))


def _number(what: str, text: str, least: int, most: int) -> int:
    try:
        if not text.isascii() or "_" in text or len(text) > 10:
            raise ValueError
        number = int(text, 16) if text.startswith("0x") else int(text, 10)
    except ValueError:
        raise ValueError(f"{what}={text[:20]}: not a number") from None
    if not least <= number <= most:
        raise ValueError(f"{what}={text}: {least} to {most}")
    return number
