"""VLANs against a slow model of 802.1Q that thinks in frames, not in tags and records.

The model knows nothing of stages: it parses a frame, decides by the tables of 802.1Q which VLAN it
is of, learns by (VLAN, MAC), and writes out for each port the frame that is to leave there.
"""

import random

import trio

from vswitch.features import manager as managed
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.features.vlans import Vlans
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet, vlan_tagged

LAYOUTS = 100
FRAMES = 250  # for each: 25,000 together
VLANS = (1, 2, 3, 10)
MACS = [bytes([2, 0, 0, 0, 0, n]) for n in range(8)]
TPIDS = {b"\x81\x00": 0x8100, b"\x88\xa8": 0x88A8}


def split(frame):
    """(addresses, [(tpid, priority, vlan), ...], rest)."""
    tags, at = [], 12
    while frame[at : at + 2] in TPIDS:
        tci = int.from_bytes(frame[at + 2 : at + 4], "big")
        tags.append((TPIDS[frame[at : at + 2]], tci >> 13, tci & 0xFFF))
        at += 4
    return frame[:12], tags, frame[at:]


class Model:
    def __init__(self, ports):
        self.ports = ports  # number → (tagged VLANs, untagged VLAN or None)
        self.table = {}

    def classify(self, port, tags):
        """(vlan, priority, inner tags), or None if the port refuses it."""
        carried, untagged = self.ports[port]
        if not tags:
            return None if untagged is None else (untagged, 0, [])
        (tpid, priority, vlan), inner = tags[0], tags[1:]
        if tpid != 0x8100:
            return None
        if vlan == 0:
            vlan = untagged
        if vlan is None or (vlan not in carried and vlan != untagged):
            return None
        if vlan == untagged and inner:
            return None
        return vlan, priority, inner

    def forward(self, port, frame):
        """{port: frame}."""
        addresses, tags, rest = split(frame)
        known = self.classify(port, tags)
        if known is None:
            return {}
        vlan, priority, inner = known
        destination, source = addresses[:6], addresses[6:]
        self.table[vlan, source] = port
        members = [
            number
            for number, (carried, untagged) in self.ports.items()
            if number != port and (vlan in carried or vlan == untagged)
        ]
        if not destination[0] & 1 and (vlan, destination) in self.table:
            members = [number for number in members if number == self.table[vlan, destination]]
        out = {}
        for number in members:
            plain = addresses + rest
            for tpid, its_priority, its_vlan in reversed(inner):
                plain = vlan_tagged(plain, its_vlan, priority=its_priority, tpid=tpid)
            if vlan != self.ports[number][1]:
                out[number] = vlan_tagged(plain, vlan, priority=priority)
            elif not inner:
                out[number] = plain
        return out


def any_port(rng):
    """Settings, and what the model makes of them."""
    kind = rng.randrange(4)
    if kind == 0:
        return {}, (set(), 1)
    if kind == 1:
        vlan = rng.choice(VLANS)
        return {"vlan": vlan}, (set(), vlan)
    carried = {vlan for vlan in VLANS if rng.random() < 0.6} or {10}
    said = {"trunk": ",".join(map(str, carried))}
    if kind == 2:
        return said, (carried, None)
    native = rng.choice(VLANS)
    return {**said, "native": native}, (carried, native)


def any_frame(rng):
    destination = rng.choice([*MACS, b"\xff" * 6, b"\x33\x33\0\0\0\1"])
    frame = ethernet(destination, rng.choice(MACS), 0x0800, rng.randbytes(rng.randrange(60)))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 1, 1, 2))):
        frame = vlan_tagged(
            frame,
            rng.choice((0, 4095, *VLANS, *VLANS)),
            priority=rng.randrange(8),
            tpid=0x88A8 if rng.random() < 0.1 else 0x8100,
        )
    return frame


async def one_layout(seed):
    rng = random.Random(seed)
    count = rng.randint(2, 6)
    chosen = {f"p{n}": any_port(rng) for n in range(1, count + 1)}
    said = {name: settings for name, (settings, _) in chosen.items()}
    said["p0"] = {"vlan": 99}  # never attached: VLANs are on whatever the others say
    model = Model({n: chosen[f"p{n}"][1] for n in range(1, count + 1)})
    sent = 0
    async with open_switch() as switch:
        FeatureManager(switch, Settings(ports=said))
        devices = {n: FakeDevice() for n in range(1, count + 1)}
        ports = {n: switch.attach(device, name=f"p{n}") for n, device in devices.items()}
        for _ in range(FRAMES // 5):
            number = rng.randint(1, count)
            frames = [any_frame(rng) for _ in range(5)]
            switch.ingress(
                ports[number],
                [b"\xbc\xbc" + len(frame).to_bytes(2, "big") + frame for frame in frames],
            )
            expected = {n: [] for n in devices}
            for frame in frames:
                for egress, left in model.forward(number, frame).items():
                    expected[egress].append(left)
            got = {n: device.take() for n, device in devices.items()}
            assert got == expected, (seed, chosen)
            sent += len(frames)
        totals = switch.statistics().totals
        assert totals.rx_frames == sent
        assert totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped
    return sent


def test_the_switch_does_what_the_model_does(monkeypatch):
    # Without the others: the stations here move as no station does, and would be frozen.
    monkeypatch.setattr(managed, "FEATURES", (Vlans,))
    assert sum(trio.run(one_layout, seed) for seed in range(LAYOUTS)) >= 20_000
