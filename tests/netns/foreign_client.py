"""A client of foreign ports as somebody else would write it, from the description alone.

    python foreign_client.py udp|tcp|qemu HOST PORT IFNAME ADDRESS/PREFIX

It shares no code with vswitch: a TAP, a socket, and a loop. One that knows only this much has to
work with our listeners.
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


def carry_datagrams(tap, target):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(target)
    while True:
        for ready in select.select([tap, sock], [], [])[0]:
            try:
                if ready is sock:
                    os.write(tap, sock.recv(65536))
                else:
                    sock.send(os.read(tap, 65536))
            except ConnectionRefusedError:
                pass


def carry_stream(tap, target, qemu):
    sock = socket.create_connection(target)
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
    if kind == "udp":
        carry_datagrams(tap, (host, int(port)))
    else:
        carry_stream(tap, (host, int(port)), kind == "qemu")


if __name__ == "__main__":
    main()
