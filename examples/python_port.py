"""A switch in one program, with a port that is a coroutine: it answers ARP and ping.

    sudo .venv/bin/python examples/python_port.py

The program makes a switch and plugs two things into it: a TAP interface of this host, vswex0 with
10.99.0.1/24, and a port whose other side is Python. From another terminal:

    ping 10.99.0.2

It needs root (or CAP_NET_ADMIN) and /dev/net/tun for the TAP; `answer` itself needs nothing and
works on any port, also on one of a `serve()`. Ctrl-C ends it, and the interface goes with it.
"""

from __future__ import annotations

import logging
import sys
from ipaddress import IPv4Address

import trio

from vswitch import LocalPort, TapConfig, VswitchError, open_switch, open_tap

MAC = bytes.fromhex("02000a630002")  # locally administered
ADDRESS = IPv4Address("10.99.0.2")
HOST = TapConfig(name="vswex0", address="10.99.0.1/24")

ARP_TYPE, IPV4_TYPE = b"\x08\x06", b"\x08\x00"
ARP_REQUEST = bytes.fromhex("0001080006040001")  # RFC 826: Ethernet, IPv4, request
ARP_REPLY = ARP_REQUEST[:7] + b"\x02"
ICMP = 1  # protocol number
ECHO_REQUEST = 8  # RFC 792; the reply is 0


async def answer(port: LocalPort, mac: bytes, address: IPv4Address) -> None:
    """Be a host at `address`, for as long as the switch holds the port."""
    async for frame in port:
        reply = arp_reply(frame, mac, address) or echo_reply(frame, mac, address)
        if reply is not None:
            await port.send(reply)


def arp_reply(frame: bytes, mac: bytes, address: IPv4Address) -> bytes | None:
    """The answer to an ARP request for `address`, None for any other frame."""
    if frame[12:22] != ARP_TYPE + ARP_REQUEST or frame[38:42] != address.packed:
        return None
    sender = frame[22:32]  # MAC and IPv4 address of who asks
    return sender[:6] + mac + ARP_TYPE + ARP_REPLY + mac + address.packed + sender


def echo_reply(frame: bytes, mac: bytes, address: IPv4Address) -> bytes | None:
    """The answer to a whole ICMP echo request to `address`, None for any other frame."""
    packet = frame[14:]
    if frame[:6] != mac or frame[12:14] != IPV4_TYPE or len(packet) < 20:
        return None
    header = (packet[0] & 0x0F) * 4
    fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF  # offset, and whether more follow
    if fragment or packet[9] != ICMP or packet[16:20] != address.packed:
        return None
    if len(packet) < header + 8 or packet[header] != ECHO_REQUEST:
        return None
    # Swapped addresses leave the header's checksum right; a type of 0 in place of 8 adds 8 to
    # the first byte of the complement (RFC 1624).
    checksum = int.from_bytes(packet[header + 2 : header + 4], "big") + (ECHO_REQUEST << 8)
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    return (
        frame[6:12]
        + mac
        + IPV4_TYPE
        + packet[:12]
        + packet[16:20]
        + packet[12:16]
        + packet[20:header]
        + b"\x00\x00"
        + checksum.to_bytes(2, "big")
        + packet[header + 4 :]
    )


async def main() -> None:
    async with (
        open_tap(HOST) as tap,
        open_switch() as switch,
        switch.open_port("python") as port,
    ):
        switch.attach(tap, name="host")
        print(f"{HOST.name} has {HOST.address}; now try: ping {ADDRESS}")
        await answer(port, MAC, ADDRESS)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        trio.run(main)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* VswitchError as errors:  # no privilege, no /dev/net/tun: it says what to do
        sys.exit(f"python_port: {errors.exceptions[0]}")
