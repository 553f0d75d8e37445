"""A VLAN interface in user space, for kernels without 802.1Q: `vlan_interface.py DEV VLAN ADDRESS`.

Makes the interface DEV.VLAN with the MAC address of DEV, and carries frames of that VLAN between
the two, superframes too: what the kernel hands to a packet socket with its virtio-net header goes
into the interface as it is. Runs in the network namespace of the host until it is killed.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR = 263, 8, 15
ETH_P_ALL = 3
OUTGOING = 4
VLAN_VALID = 0x10
VNET_SIZE = 10


def main(device: str, vlan: int, address: str) -> None:
    name = f"{device}.{vlan}"
    tap = os.open("/dev/net/tun", os.O_RDWR)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    mac = Path(f"/sys/class/net/{device}/address").read_text().strip()
    for command in (
        ["link", "set", name, "address", mac],
        ["link", "set", name, "up"],
        ["addr", "add", f"{address}/24", "dev", name],
    ):
        subprocess.run(["ip", *command], check=True)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    sock.bind((device, ETH_P_ALL))
    print("up", flush=True)
    while True:
        ready, _, _ = select.select([tap, sock], [], [])
        if tap in ready:
            data = os.read(tap, 70_000)
            frame = data[VNET_SIZE:]
            tagged = frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]
            sock.send(bytes(VNET_SIZE) + tagged)
        if sock in ready:
            data, controls, _, source = sock.recvmsg(70_000, 256)
            if source[2] != OUTGOING and vlan in [tag_of(body) for _, _, body in controls]:
                os.write(tap, data)


def tag_of(auxdata: bytes) -> int | None:
    """The VLAN that the kernel has taken out of a frame (struct tpacket_auxdata)."""
    status, tci = struct.unpack_from("I", auxdata)[0], struct.unpack_from("H", auxdata, 16)[0]
    return tci & 0xFFF if status & VLAN_VALID else None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
