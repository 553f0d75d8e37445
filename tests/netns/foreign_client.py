"""A client of foreign ports as somebody else would write it, from the description alone.

    python foreign_client.py udp|nio|tcp|kcp|qemu|vxlan HOST PORT IFNAME ADDRESS/PREFIX
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
import time

# Nobody listens there yet. A socket is ready to read for that, too, and has nothing any more once
# the next write has told it.
REFUSED = (ConnectionRefusedError, BlockingIOError)


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
            except REFUSED:
                pass


def carry_datagrams(tap, sock):
    while True:
        for ready in select.select([tap, sock], [], [])[0]:
            try:
                if ready is sock:
                    os.write(tap, sock.recv(65536, socket.MSG_DONTWAIT))
                else:
                    sock.send(os.read(tap, 65536))
            except REFUSED:
                pass


class Kcp:
    """A stream over KCP's segments, with the timers that kcp-go has when nothing is set."""

    MTU, WINDOW, PUSH, ACK, ASK, TELL = 1400, 32, 81, 82, 83, 84
    FLUSH = 0.1  # seconds
    RTO = 0.2

    def __init__(self, conv, send):
        self.conv, self.send_datagram = conv, send
        self.waiting = []  # content that has no number yet
        self.unacked = {}  # number: content, when it is sent again
        self.number = self.awaited = 0
        self.early, self.acks, self.told = {}, [], False
        self.window = self.WINDOW  # of the other side
        self.flushed = 0.0

    def write(self, data, now):
        size = self.MTU - 24
        self.waiting += [data[at : at + size] for at in range(0, len(data), size)]
        self.flush(now)

    def segment(self, command, stamp=0, number=0, content=b""):
        head = struct.pack("<IBBH", self.conv, command, 0, self.WINDOW)
        return head + struct.pack("<IIII", stamp, number, self.awaited, len(content)) + content

    def flush(self, now):
        self.flushed = now
        clock = int(now * 1000) & 0xFFFFFFFF
        out = [self.segment(self.ACK, stamp, number) for number, stamp in self.acks]
        self.acks = []
        if self.told:
            out.append(self.segment(self.TELL))
            self.told = False
        if self.waiting and not self.window:
            out.append(self.segment(self.ASK))
        while self.waiting and len(self.unacked) < min(self.WINDOW, self.window):
            self.unacked[self.number] = self.waiting.pop(0), 0.0
            self.number = (self.number + 1) & 0xFFFFFFFF
        for number, (content, due) in self.unacked.items():
            if now >= due:
                self.unacked[number] = content, now + self.RTO
                out.append(self.segment(self.PUSH, clock, number, content))
        datagram = b""
        for each in out:
            if datagram and len(datagram) + len(each) > self.MTU:
                self.send_datagram(datagram)
                datagram = b""
            datagram += each
        if datagram:
            self.send_datagram(datagram)

    def tick(self, now):
        if now >= self.flushed + self.FLUSH:
            self.flush(now)

    def receive(self, datagram, now):
        """The bytes of the stream that have come in order."""
        found, slides = b"", False
        while datagram:
            conv, command, fragment, self.window = struct.unpack_from("<IBBH", datagram)
            stamp, number, una, size = struct.unpack_from("<IIII", datagram, 8)
            assert conv == self.conv
            assert fragment == 0
            content, datagram = datagram[24 : 24 + size], datagram[24 + size :]
            assert len(content) == size
            gone = [each for each in self.unacked if (una - each - 1) & 0xFFFFFFFF < 1 << 31]
            if command == self.ACK:
                gone.append(number)
            for each in gone:
                slides |= self.unacked.pop(each, None) is not None
            if command == self.ASK:
                self.told = True
            elif command == self.PUSH:
                self.acks.append((number, stamp))
                if (number - self.awaited) & 0xFFFFFFFF < self.WINDOW:
                    self.early[number] = content
                while self.awaited in self.early:
                    found += self.early.pop(self.awaited)
                    self.awaited = (self.awaited + 1) & 0xFFFFFFFF
        if slides:
            self.flush(now)
        return found


def carry_kcp(tap, target):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(target)
    kcp = Kcp(int.from_bytes(os.urandom(4), "little"), sock.send)
    data = b""
    while True:
        # Who waits for the window reads no more, as one that writes to a stream.
        tapped = [tap] if len(kcp.waiting) < kcp.WINDOW else []
        for ready in select.select([*tapped, sock], [], [], kcp.FLUSH)[0]:
            if ready is tap:
                frame = os.read(tap, 65536)
                kcp.write(b"\xbc\xbc" + struct.pack(">H", len(frame)) + frame, time.monotonic())
                continue
            try:
                datagram = sock.recv(65536, socket.MSG_DONTWAIT)
            except REFUSED:
                continue
            data = write_frames(tap, data + kcp.receive(datagram, time.monotonic()))
        kcp.tick(time.monotonic())


def write_frames(tap, data):
    """Give the whole frames of the stream to the TAP; the rest. Where none begins, one is searched
    for: a listener that was started again goes on in the middle.
    """
    while len(data) >= 4:
        if data[:2] != b"\xbc\xbc":
            at = data.find(b"\xbc\xbc", 1)
            data = data[at if at > 0 else -1 :]
            continue
        (size,) = struct.unpack(">H", data[2:4])
        if len(data) < 4 + size:
            break
        write_frame(tap, data[4 : 4 + size])
        data = data[4 + size :]
    return data


def write_frame(tap, frame):
    try:
        os.write(tap, frame)
    except OSError:  # two frames in one, where the step was lost
        print(f"{len(frame)} bytes refused", flush=True)


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
    if kind == "kcp":
        carry_kcp(tap, target)
    elif kind == "vxlan":
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
