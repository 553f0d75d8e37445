"""The places where the features of a managed switch join in: stages, reach, observers, explain."""

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.frames.records import frame_record
from vswitch.switch.counters import DropReason
from vswitch.switch.stages import Decision, Explained
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
ALL = b"\xff" * 6
GROUP = bytes.fromhex("01005e010203")


def frame(destination, source, content=b"hello"):
    return ethernet(destination, source, 0x0800, content)


class Without:
    """Drops records that contain a word; changes none."""

    def __init__(self, word):
        self.word = word

    def take(self, records, now, counters):
        kept = [record for record in records if self.word not in record]
        counters.drop(DropReason.RUNT, len(records) - len(kept))
        return kept

    def explain(self, record, now):
        if self.word in record:
            return Explained(None, f"contains {self.word}", DropReason.RUNT)
        return Explained(record, "")


class Pairs:
    """Ports 1 and 2 hear each other, 3 hears all; a group goes to 3 alone."""

    def reaches(self, ingress, egress, vlan):
        return {ingress, egress} == {1, 2} or egress == 3

    def group_ports(self, ingress, vlan, mac, now):
        return (3,) if mac == GROUP else None


class Witness:
    def __init__(self):
        self.seen = []

    def saw_ingress(self, port, records, now):
        self.seen.append(("in", port, len(records)))

    def saw_egress(self, port, records, now):
        self.seen.append(("out", port, len(records)))


@pytest.fixture
async def four():
    async with open_switch() as switch:
        devices = [FakeDevice() for _ in range(4)]
        ports = [switch.attach(device, name=f"p{n}") for n, device in enumerate(devices, 1)]
        yield switch, ports, devices


def in_equals_out(switch):
    totals = switch.statistics().totals
    return totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped


async def test_stages_drop_and_count(four):
    switch, ports, devices = four
    ports[0].ingress_stages = (Without(b"bad"), Without(b"worse"))
    ports[1].egress_stages = (Without(b"secret"),)
    devices[0].feed(*(frame(ALL, A, word) for word in (b"bad", b"worse", b"secret", b"good")))
    await wait_all_tasks_blocked()
    assert len(devices[1].take()) == 1
    assert len(devices[2].take()) == 2
    counters = ports[0].counters.snapshot()
    assert counters.rx_frames == 4
    assert counters.rx_bytes == 4 * 14 + len(b"badworsesecretgood")
    assert counters.drops == {DropReason.RUNT: 2}
    assert ports[1].counters.snapshot().drops == {DropReason.RUNT: 1}
    assert in_equals_out(switch)


class Holding:
    """Keeps all that comes, until somebody has it go on."""

    def __init__(self):
        self.held = []

    def take(self, records, now, counters):
        self.held += records
        return []

    def explain(self, record, now):
        return Explained(record, "held")


async def test_frames_that_a_stage_has_held_go_on_behind_it_and_are_counted_once(four):
    switch, ports, devices = four
    holding, witness = Holding(), Witness()
    switch.add_observer(witness)
    ports[0].ingress_stages = (Without(b"bad"), holding, Without(b"worse"))
    switch.ingress(ports[0], [frame_record(frame(B, A, word)) for word in (b"worse", b"good")])
    ports[0].ingress_stages = (Without(b"good"), holding, Without(b"worse"))
    switch.resume(ports[0], holding.held, holding)
    assert devices[1].take() == [frame(B, A, b"good")]
    counters = ports[0].counters.snapshot()
    assert (counters.rx_frames, counters.rx_bytes) == (2, 2 * 14 + len(b"worsegood"))
    assert counters.drops == {DropReason.RUNT: 1}
    assert witness.seen[:2] == [("in", 1, 2), ("in", 1, 0)]
    assert in_equals_out(switch)


async def test_reach_keeps_ports_apart(four):
    switch, ports, devices = four
    switch.set_policy(reach=Pairs)
    devices[0].feed(frame(ALL, A))
    await wait_all_tasks_blocked()
    assert [len(device.take()) for device in devices] == [0, 1, 1, 0]
    devices[3].feed(frame(ALL, B))
    await wait_all_tasks_blocked()
    assert [len(device.take()) for device in devices] == [0, 0, 1, 0]
    devices[0].feed(frame(B, A), frame(GROUP, A))
    await wait_all_tasks_blocked()
    assert [len(device.take()) for device in devices] == [0, 0, 1, 0]
    assert ports[0].counters.snapshot().drops == {DropReason.NOT_REACHED: 1}
    switch.set_policy(reach=lambda: None)
    devices[0].feed(frame(B, A))
    await wait_all_tasks_blocked()
    assert len(devices[3].take()) == 1
    assert in_equals_out(switch)


class Refusing:
    """Lets nobody learn a station on port 2."""

    def __init__(self, noted):
        self.noted = noted

    def admits(self, vlan, mac, port, known, now):
        self.noted.append(("asked", port, known))
        return DropReason.MAC_REFUSED if port == 2 else None

    def judges(self, vlan, mac, port, known, now):
        return DropReason.MAC_REFUSED if port == 2 else None

    def thaw(self):
        self.noted.append("thaw")


async def test_a_policy_hears_of_new_stations_and_of_moves_and_may_refuse_them(four):
    switch, ports, _ = four
    noted = []
    switch.set_policy(
        reach=lambda: None, learning=Refusing(noted), moved=lambda *move: noted.append(move)
    )
    for port in (0, 0, 1, 2):
        switch.ingress(ports[port], [frame_record(frame(ALL, A))])
    assert noted == [("asked", 1, None), (A, 1, 2), ("asked", 2, 1), (A, 1, 3), ("asked", 3, 1)]
    assert ports[1].counters.drops == {DropReason.MAC_REFUSED: 1}
    assert switch.explain(ports[1], frame_record(frame(ALL, A))).reason == "mac_refused"
    switch.thaw_stations()
    assert noted[-1] == "thaw"
    switch.set_policy(reach=lambda: None)
    assert switch.fdb.learn(0, A, 2, switch.now()) is True
    assert len(noted) == 6


async def test_an_observer_sees_both_ways_until_it_is_removed(four):
    switch, _, devices = four
    witness = Witness()
    switch.add_observer(witness)
    devices[0].feed(frame(ALL, A))
    await wait_all_tasks_blocked()
    assert witness.seen == [("in", 1, 1), ("out", 2, 1), ("out", 3, 1), ("out", 4, 1)]
    switch.remove_observer(witness)
    devices[0].feed(frame(ALL, A))
    await wait_all_tasks_blocked()
    assert len(witness.seen) == 4


async def test_explain_says_what_would_happen_and_changes_nothing(four):
    switch, ports, devices = four
    ports[0].ingress_stages = (Without(b"bad"),)
    ports[1].egress_stages = (Without(b"secret"),)
    switch.set_policy(reach=Pairs)

    def explain(content, destination=ALL):
        return switch.explain(ports[0], frame_record(frame(destination, A, content)))

    assert explain(b"bad") == Decision((), DropReason.RUNT, ("contains b'bad'",))
    assert explain(b"good").egress == (2, 3)
    secret = explain(b"secret")
    assert secret.egress == (3,)
    assert secret.steps[-1] == "port 2: contains b'secret'"
    assert explain(b"good", GROUP).egress == (3,)
    assert "flooded" in explain(b"good", B).steps[0]
    assert explain(b"x" * 2000).reason == DropReason.OVERSIZE
    assert explain(b"good", bytes.fromhex("0180c2000000")).reason == "reserved_destination"
    devices[3].feed(frame(ALL, B))
    await wait_all_tasks_blocked()
    assert explain(b"good", B).reason == DropReason.NOT_REACHED
    assert "known" in explain(b"good", B).steps[0]
    assert switch.statistics().ports[0].counters.rx_frames == 0
    assert [entry.mac for entry in switch.fdb_entries()] == ["02:00:00:00:00:0b"]
