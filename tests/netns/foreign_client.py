"""A client of foreign ports as somebody else would write it, from the description alone.

    python foreign_client.py udp|nio|tcp|qemu|vxlan HOST PORT IFNAME ADDRESS/PREFIX
    python foreign_client.py lima|vfkit PATH 0 IFNAME ADDRESS/PREFIX

It shares no code with vswitch: a TAP, a socket, and a loop. One that knows only this much has to
work with our listeners. `nio` is GNS3's UDP NIO (a fixed port at each end), `lima` the stream of
QEMU over a UNIX socket, `vfkit` one frame a datagram behind a greeting, `vxlan` a router that
sets what RFC 7348 reserves and sends each flow from another port.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys


def open_tap(name, address):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000))
    subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return tap


def connected(target, own_port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", own_port))
    sock.connect(target)
    return sock


def greeted(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f"{path}-{os.getpid()}")
    sock.connect(path)
    sock.send(b"VFKT")
    return sock


def carry_vxlan(tap, target, vni=42):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("", target[1]))
    flows = [connected(target) for _ in range(8)]
    # The bits of a group policy, of its id, and the last byte, all of which are reserved.
    head = struct.pack(">BBHI", 0x88, 0x40, 0x1234, vni << 8 | 0xA5)
    while True:
        for ready in select.select([tap, own], [], [])[0]:
            if ready is own:
                data = own.recv(65536)
                assert data[:8] == struct.pack(">B3xI", 0x08, vni << 8), data[:8]
                os.write(tap, data[8:])
                continue
            frame = os.read(tap, 65536)
            try:
                flows[frame[-1] % len(flows)].send(head + frame)
            except ConnectionRefusedError:
                pass


def carry_datagrams(tap, sock):
    while True:
        for ready in select.select([tap, sock], [], [])[0]:
            try:
                if ready is sock:
                    os.write(tap, sock.recv(65536))
                else:
                    sock.send(os.read(tap, 65536))
            except ConnectionRefusedError:
                pass


def stream_to(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


def carry_stream(tap, sock, qemu):
    data = b""
    while True:
        for ready in select.select([tap, sock], [], [])[0]:
            if ready is not sock:
                frame = os.read(tap, 65536)
                head = struct.pack(">I", len(frame))
                sock.sendall((head if qemu else b"\xbc\xbc" + head[2:]) + frame)
                continue
            more = sock.recv(65536)
            if not more:
                sys.exit("closed")
            data += more
            while len(data) >= 4:
                assert qemu or data[:2] == b"\xbc\xbc", data[:16]
                (size,) = struct.unpack(">I", data[:4]) if qemu else struct.unpack(">H", data[2:4])
                if len(data) < 4 + size:
                    break
                os.write(tap, data[4 : 4 + size])
                data = data[4 + size :]


def main():
    kind, host, port, name, address = sys.argv[1:]
    tap = open_tap(name, address)
    print("ready", flush=True)
    target = (host, int(port))
    if kind == "vxlan":
        carry_vxlan(tap, target)
    elif kind in ("udp", "nio"):
        carry_datagrams(tap, connected(target, target[1] + 1 if kind == "nio" else 0))
    elif kind == "vfkit":
        carry_datagrams(tap, greeted(host))
    else:
        sock = stream_to(host) if kind == "lima" else socket.create_connection(target)
        carry_stream(tap, sock, kind != "tcp")


if __name__ == "__main__":
    main()
