"""What people see of a switch, and what programs see."""

from __future__ import annotations

import json
import sys

import pytest

from vswitch.errors import VswitchError
from vswitch.management.status import (
    JoinStatus,
    MemberStatus,
    PortStatus,
    SwitchStatus,
    from_json,
    to_json,
)
from vswitch.management.tables import (
    age,
    joins_table,
    members_table,
    ports_table,
    refusals,
    size,
    switch_line,
    table,
)

PORT = PortStatus(
    port=1,
    name="pc1",
    state="up",
    address="10.77.0.2/24",
    via="udp:203.0.113.9:41022",
    lane="datagram",
    lane_mode="auto",
    rtt_ms=18.04,
    rx_bytes=1_234_567,
    tx_bytes=999,
    drops={"queue_full": 2, "bad_source": 1},
)
SWITCH = SwitchStatus(
    version="0.1.0",
    uptime_s=273_700.0,
    listen="[::]:7450",
    subnet="10.77.0.0/24",
    mtu=1500,
    members=2,
    ports=[PORT, PortStatus(port=2, name="bot", state="up")],
)


def squeezed(line):
    return " ".join(line.split())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (1234, "1.2k"),
        (9960, "10k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (310e6, "310M"),
        (1.2e9, "1.2G"),
        (5e21, "5000E"),
    ],
)
def test_sizes_have_decimal_units(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (42.9, "42s"),
        (300, "5m"),
        (303, "5m3s"),
        (3601, "1h"),
        (273_700, "3d4h"),
    ],
)
def test_ages_have_at_most_two_units(seconds, text):
    assert age(seconds) == text


def test_columns_are_aligned_and_lines_cannot_be_forged():
    text = table(["A", "LONG"], [["wide cell", "x"], ["a\nb", "\x1b[2J"]])
    assert text.splitlines() == ["A          LONG", "wide cell  x", "a?b        ?[2J"]


@pytest.mark.parametrize("room", [80, 40, 20, 5])
def test_a_table_fits_a_terminal_and_what_is_cut_has_a_mark(room):
    rows = [["pc1", "udp:[2001:db8::1234]:41415", "up, vlan 10, isolated, mirror"], ["b", "c", "d"]]
    whole = table(["NAME", "VIA", "STATE"], rows, sys.maxsize)
    assert "…" not in whole
    shown = table(["NAME", "VIA", "STATE"], rows, room).splitlines()
    assert max(map(len, shown)) <= max(room, 4 + 8 + 8 + 2)
    assert [line.split()[0] for line in shown] == ["NAME", "pc1", "b"]
    assert ("…" in shown[1]) == (room < 64)


def test_a_table_takes_the_room_of_the_terminal_and_any_in_a_file(monkeypatch):
    row = ["x" * 300]
    assert table(["A"], [row]).endswith("x" * 300)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert table(["A"], [row]).splitlines()[1] == "x" * 79 + "…"


def test_the_ports_of_a_switch():
    head, first, second = ports_table(SWITCH.ports).splitlines()
    assert squeezed(head) == "PORT NAME ADDRESS VIA LANE RTT RX TX DROPS STATE"
    assert (
        squeezed(first)
        == "1 pc1 10.77.0.2/24 udp:203.0.113.9:41022 auto(datagram) 18.0ms 1.2M 999 3 up"
    )
    assert squeezed(second) == "2 bot - - - - 0 0 0 up"
    assert "up 3d4h" in switch_line(SWITCH)
    assert "10.77.0.0/24" in switch_line(SWITCH)


def test_state_and_drops_of_a_port_say_what_is_special():
    special = {"isolated": True, "vlan": 10, "trunk": "all", "mirror": ["pc2"], "trusted": False}
    usual = {"no_destination": 9, "same_port": 9, "group_report": 9, "reserved_destination": 9}
    port = PortStatus(
        port=1,
        name="a",
        state="up",
        impaired="loss 1%",
        settings=special,
        drops={**usual, "runt": 2},
    )
    line = squeezed(ports_table([port]).splitlines()[1])
    assert line.endswith("0 0 2 up, impaired, isolated, vlan 10, trunk all, mirror")


def test_joins_and_members():
    join = JoinStatus(name="pc1", state="connecting", server="switch.example.org:7450", since=100.0)
    line = joins_table([join], now=160.0).splitlines()[1]
    assert squeezed(line) == "pc1 connecting 1m - - - switch.example.org:7450 - - - 0 0"
    common = {"fingerprint": "abcdefgh", "key": "k", "created": 0.0}
    members = [
        MemberStatus(name="a", connected=True, via="udp:[::1]:5", last_seen=60.0, **common),
        MemberStatus(name="b", connected=False, **common),
        MemberStatus(name="c", **common),
        MemberStatus(name="d", revoked=60.0, **common),
    ]
    rows = members_table(members).splitlines()[1:]
    assert rows[0].endswith("1970-01-01 00:01  connected udp:[::1]:5")
    assert rows[1].endswith("away")
    assert rows[2].endswith("-")
    assert rows[3].endswith("revoked 1970-01-01 00:01")


def test_a_status_survives_json():
    data = json.loads(json.dumps(to_json(SWITCH)))
    assert data["schema"] == 1
    assert data["ports"][0]["drops"] == {"queue_full": 2, "bad_source": 1}
    assert from_json(data, SwitchStatus) == SWITCH


def test_keys_of_a_newer_version_are_ignored():
    assert from_json(to_json(SWITCH) | {"weather": "fine"}, SwitchStatus) == SWITCH


@pytest.mark.parametrize("data", [None, [], "x", {}, {"version": []}])
def test_what_is_no_status_is_refused(data):
    with pytest.raises(VswitchError, match="is it the same version"):
        from_json(data, SwitchStatus)


def test_what_a_member_does_not_take_is_a_line_each():
    common = {"state": "up", "server": "switch.example.org:7450"}
    first = JoinStatus(name="pc1", refused={"address": "192.0.2.1/24: it is public"}, **common)
    second = JoinStatus(name="pc2", **common)
    assert refusals([second]) == ""
    assert refusals([first, second]) == "pc1 does not take address 192.0.2.1/24: it is public"
