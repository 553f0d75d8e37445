"""What the comparison says of peers that are not there, and of those that are; none runs."""

import json
from pathlib import Path

import attrs
import pytest

from benchmarks.bed import Bed
from benchmarks.peers import PEERS, Peer, softether
from benchmarks.report import not_measured, table

ROOT = Path(__file__).parents[2]


def nothing(bed: Bed) -> None:
    raise AssertionError("no test here starts a peer")


PEER = Peer("x", "a peer", ("no-such-edge", "sh", "no-such-relay"), "xpack", lambda: "1", nothing)


def test_a_missing_program_of_debian_is_named_with_its_package() -> None:
    assert PEER.remedy() == "no no-such-edge, no-such-relay (apt-get install xpack)"


def test_a_missing_program_that_debian_has_not_is_named_with_its_source() -> None:
    peer = attrs.evolve(PEER, package="", source="x (https://example.org/x)")
    assert peer.remedy().startswith("no no-such-edge, no-such-relay (not in Debian: build x (https")


def test_nothing_is_said_of_a_peer_that_is_there() -> None:
    assert attrs.evolve(PEER, programs=("sh",)).remedy() == ""


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_every_peer_says_where_its_programs_come_from(peer: Peer) -> None:
    assert bool(peer.programs) == bool(peer.package or peer.source)
    assert not (peer.package and peer.source)


def test_what_debian_has_is_in_the_documents_line_of_packages() -> None:
    listed = (ROOT / "docs" / "performance.md").read_text()
    listed = listed[listed.index("apt-get install openvpn") :].partition("python -m")[0]
    packages = {name for peer in PEERS.values() for name in peer.package.split()}
    assert packages <= set(listed.split())


def test_the_report_names_what_was_not_measured() -> None:
    assert not_measured({}) == ""
    assert not_measured({"x": PEER.remedy()}) == (
        "\nnot measured:\n"
        "  x                no no-such-edge, no-such-relay (apt-get install xpack)\n"
    )


def test_pings_a_second_apart_have_a_column_also_where_an_older_result_has_none() -> None:
    result = json.loads((ROOT / "benchmarks/results/2026-11-29-compare.json").read_text())
    entry = result["summary"][0]
    pings = {key: value for key, value in entry["figures"]["ping"].items() if key != "ms1000"}
    older = {**entry, "figures": {**entry["figures"], "ping": pings}}
    ping = {**pings, "ms1000": {"min": 1.25, "p50": 2.5, "p99": 3.75}}
    newer = {**entry, "peer": "new", "figures": {**entry["figures"], "ping": ping}}
    head, first, second, *_ = table([older, newer], {}, [80_000]).splitlines()
    at = head.index("ping 1s")
    assert first[at:].startswith("– / – / – ")
    assert second[at:].startswith("1.25 / 2.50 / 3.75 ")


@pytest.mark.parametrize(("said", "udp"), [("Yes", True), ("No", False)])
def test_softether_says_whether_it_goes_by_udp(said: str, udp: bool) -> None:
    status = (
        "UDP Acceleration is Supported             |Yes\n"
        f"UDP Acceleration is Active                |{said}\n"
    )
    assert softether.by_udp(status) is udp
