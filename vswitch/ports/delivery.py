"""What each port gets of one ingress: its batch, weighed, and cut for a device that needs it so.

A superframe is cut once, however many ports take none, and a flooded batch is put together once:
the copies of a flood are one and the same list. What nobody can cut is counted where it came in,
for each port that would have got it. Everything is decided before the first port is written to.
"""

from __future__ import annotations

from collections.abc import Mapping

from vswitch.core.counters import DropReason, PortCounters
from vswitch.core.load import Load, load_of, load_of_frames
from vswitch.core.segment import without_superframes_untrusted
from vswitch.ports.port import Port

__all__ = ["Parcel", "parcels"]

Parcel = tuple[Port, list[bytes], Load]


def parcels(
    batches: Mapping[int, list[bytes]],
    records: list[bytes],
    load: Load,
    ports: Mapping[int, Port],
    mtu: int,
    counters: PortCounters,
) -> list[Parcel]:
    """What to send, for batches by port number that the forwarder made of `records`.

    `load` is that of `records`; `mtu` that of the LAN, in bytes; `counters` those of the port of
    ingress.
    """
    # HOT PATH
    if not load.superframes:
        return [
            (ports[number], batch, load if batch is records else load_of_frames(batch))
            for number, batch in batches.items()
        ]
    sent: list[Parcel] = []
    known: dict[int, list[bytes]] = {}  # superframes that were cut, by id
    cut: dict[int, tuple[list[bytes], Load, int]] = {}  # batches that were cut, by id
    for number, batch in batches.items():
        port = ports[number]
        if port.device.superframes:
            sent.append((port, batch, load if batch is records else load_of(batch)))
            continue
        done = cut.get(id(batch))
        if done is None:
            frames, refused = without_superframes_untrusted(batch, mtu, known)
            done = cut[id(batch)] = frames, load_of_frames(frames), refused
        counters.drop(DropReason.BAD_SUPERFRAME, done[2])
        if done[0]:
            sent.append((port, done[0], done[1]))
    return sent
