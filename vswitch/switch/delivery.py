"""What each egress port gets of one batch: weighed, and cut for a device that takes no superframes.

A superframe is cut once, however many ports take none, and a flooded batch is put together once:
the copies of a flood are one and the same list. What nobody can cut is counted where it came in,
for each port that would have got it. Everything is decided before the first port is written to.

`explain` says what would happen to one frame at one port, step by step, for `trace` and captures:
it asks the stages and the forwarder the way that frames take, changes nothing, and raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from vswitch.frames.load import Load, load_of, load_of_frames
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.switch.forwarding import Forwarder
from vswitch.switch.port import Port
from vswitch.switch.stages import Decision

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


def explain(
    port: Port, record: bytes, forwarder: Forwarder, ports: Mapping[int, Port], now: float
) -> Decision:
    """The decision on a record that comes in on `port` now, of a switch with these ports."""
    steps: list[str] = []
    for stage in port.ingress_stages:
        explained = stage.explain(record, now)
        steps += [explained.why] if explained.why else []
        if explained.record is None:
            return Decision((), explained.reason, tuple(steps))
        record = explained.record
    decision = forwarder.explain(port.number, record, now)
    steps += decision.steps
    egress, reason = [], decision.reason
    for number in decision.egress:
        sent: bytes | None = record
        for stage in ports[number].egress_stages:
            if sent is not None:
                explained = stage.explain(sent, now)
                steps += [f"port {number}: {explained.why}"] if explained.why else []
                sent, reason = explained.record, explained.reason
        if sent is not None:
            egress.append(number)
    return Decision(tuple(egress), "" if egress else reason, tuple(steps))
