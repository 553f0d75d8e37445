"""What forwarding costs by itself: `python -m benchmarks.forwarding`.

Batches of 64 records of 64 bytes through `Switch.ingress`, with in-process devices that take all
and keep nothing. Prints microseconds a record (and a copy, where frames are flooded) against the
number of stations in the MAC table and the number of ports. The best of several rounds, taken in
turn: whatever else the machine does makes a round slower, never quicker.
"""

from __future__ import annotations

import argparse
import json
import time

import trio

from vswitch import Switch, open_switch
from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.records import frame_record
from vswitch.switch.port import Port

BATCH = 64  # records
ROUNDS = 15
BATCHES = 200  # in a round


class Sink:
    """A device that takes everything and gives nothing."""

    mtu = 1500
    superframes = True

    def __init__(self, name: str) -> None:
        self.name = name

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def read_nowait(self, limit: int) -> list[bytes]:
        raise trio.WouldBlock

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def write_nowait(self, records: list[bytes]) -> int:
        return len(records)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def mac(number: int) -> bytes:
    """A unicast address for each number."""
    return b"\x02\x00" + number.to_bytes(4, "big")


def record(destination: bytes, source: bytes) -> bytes:
    """64 bytes of Ethernet."""
    return frame_record(destination + source + b"\x88\xb5" + bytes(50))


def ports_of(switch: Switch, count: int) -> list[Port]:
    return [switch.attach(Sink(f"p{number}"), name=f"p{number}") for number in range(count)]


def best(switch: Switch, port: Port, records: list[bytes]) -> float:
    """Microseconds a record, at best."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(BATCHES):
            switch.ingress(port, records)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest / BATCHES / len(records) * 1e6


async def stations(count: int) -> dict[str, float]:
    """One conversation, and 64 at once, with so many stations in the table."""
    async with open_switch(fdb_capacity=count + 1000, ageing_time=1e9) as switch:
        one, two = ports_of(switch, 2)
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            switch.ingress(two, [record(BROADCAST, mac(number)) for number in numbers])
        spread = max(1, count // BATCH)
        source = mac(0xFFFFFF)
        return {
            "one conversation": best(switch, one, [record(mac(0), source)] * BATCH),
            "64 destinations": best(
                switch, one, [record(mac(n * spread % count), source) for n in range(BATCH)]
            ),
        }


async def flood(count: int) -> dict[str, float]:
    """A broadcast to all other ports."""
    async with open_switch(max_ports=count) as switch:
        ports = ports_of(switch, count)
        each = best(switch, ports[0], [record(BROADCAST, mac(1))] * BATCH)
        return {"a record": each, "a copy": each / (count - 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = {
        "stations": {n: trio.run(stations, n) for n in (10, 100, 1000, 10_000, 100_000)},
        "flood": {n: trio.run(flood, n) for n in (2, 10, 100, 1000)},
    }
    if args.json:
        print(json.dumps(result, indent=2))
        return
    for what, unit in (("stations", "stations in the table"), ("flood", "ports, flooded")):
        print(f"µs by {unit}")
        for count, figures in result[what].items():
            row = "   ".join(f"{name} {value:7.3f}" for name, value in figures.items())
            print(f"  {count:7}   {row}")


if __name__ == "__main__":
    main()
