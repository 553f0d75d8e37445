"""In which order addresses and routes move from one interface to another, and what undoes it."""

import socket

import pytest
from attrs import evolve

from vswitch.devices.relocation import (
    Carried,
    CarriedAddress,
    CarriedRoute,
    Hop,
    Step,
    describe,
    missing,
    plan,
)

LINK, UNIVERSE, MAIN = 253, 0, 254


def address(text, **more):
    return CarriedAddress(socket.AF_INET, text, text, 24, UNIVERSE, 0, **more)


def route(destination, *hops, scope=UNIVERSE, **more):
    return CarriedRoute(
        socket.AF_INET, MAIN, destination, None, 0, scope, 1, 3, hops or (Hop("eth1"),), **more
    )


FIRST, SECOND = address("192.0.2.1"), address("192.0.2.2")
DEFAULT = route("0.0.0.0/0", Hop("eth1", "198.51.100.1"))
LINK_ROUTE = route("198.51.100.1/32", scope=LINK)
TWO_WAYS = route("203.0.113.0/24", Hop("eth1", "192.0.2.9"), Hop("eth2", "10.0.0.9"))
CARRIED = Carried((FIRST, SECOND), (DEFAULT, TWO_WAYS, LINK_ROUTE))


def carry_out(steps, kernel):
    for step in steps:
        entries = kernel[step.dev]
        assert (step.entry in entries) != step.add
        (entries.append if step.add else entries.remove)(step.entry)


def test_addresses_come_before_routes_and_links_before_gateways():
    gives = [step.entry for step in plan("eth1", "br0", CARRIED).gives]
    assert gives == [
        FIRST,
        SECOND,
        LINK_ROUTE.on("eth1", "br0"),
        DEFAULT.on("eth1", "br0"),
        TWO_WAYS.on("eth1", "br0"),
    ]


def test_of_ipv6_the_newest_is_the_first():
    old, new = (evolve(address(text), family=socket.AF_INET6) for text in ("fd00::1", "fd00::2"))
    gives = plan("eth1", "br0", Carried((FIRST, SECOND, new, old))).gives
    assert [step.entry for step in gives] == [FIRST, SECOND, old, new]


def test_the_source_loses_in_reverse_so_that_no_primary_takes_others_along():
    takes = [step.entry for step in plan("eth1", "br0", CARRIED).takes]
    assert takes == [TWO_WAYS, DEFAULT, LINK_ROUTE, SECOND, FIRST]


def test_only_the_hop_of_the_interface_changes():
    moved = TWO_WAYS.on("eth1", "br0")
    assert [hop.dev for hop in moved.hops] == ["br0", "eth2"]
    assert evolve(moved, hops=TWO_WAYS.hops) == TWO_WAYS


def test_whatever_a_broken_off_move_has_done_is_undone_by_the_inverse_steps():
    moving = plan("eth1", "br0", CARRIED)
    steps = [*moving.gives, *moving.takes]
    for broken_off in range(len(steps) + 1):
        kernel = {"eth1": list(CARRIED), "br0": []}
        carry_out(steps[:broken_off], kernel)
        for entry in CARRIED:
            moved = entry if entry in (FIRST, SECOND) else entry.on("eth1", "br0")
            assert entry in kernel["eth1"] or moved in kernel["br0"]  # nothing is lost meanwhile
        carry_out([step.inverse for step in reversed(steps[:broken_off])], kernel)
        assert (set(kernel["eth1"]), kernel["br0"]) == (set(CARRIED), [])


def test_another_move_does_the_rest_of_one_that_was_broken_off():
    moving = plan("eth1", "br0", CARRIED)
    steps = [*moving.gives, *moving.takes]
    for broken_off in range(len(steps) + 1):
        kernel = {"eth1": list(CARRIED), "br0": []}
        carry_out(steps[:broken_off], kernel)
        kinds = {
            dev: Carried(
                tuple(each for each in entries if isinstance(each, CarriedAddress)),
                tuple(each for each in entries if isinstance(each, CarriedRoute)),
            )
            for dev, entries in kernel.items()
        }
        rest = plan("eth1", "br0", kinds["eth1"], kinds["br0"])
        carry_out([*rest.gives, *rest.takes], kernel)
        assert (kernel["eth1"], set(kernel["br0"])) == ([], set(moving.wanted))


def test_what_differs_in_its_remaining_time_alone_is_there():
    old, new = address("192.0.2.1", valid=3600, preferred=1800), address("192.0.2.1", valid=3599)
    assert plan("eth1", "br0", Carried((old,)), Carried((new,))).gives == ()
    assert missing((old,), Carried((new,))) == ()
    assert missing((old, SECOND), Carried((new,))) == (SECOND,)


def test_an_inverse_undoes_and_is_undone():
    step = Step("eth1", FIRST)
    assert step.inverse == Step("eth1", FIRST, add=False)
    assert step.inverse.inverse == step


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (FIRST, "the address 192.0.2.1/24"),
        (LINK_ROUTE, "the route to 198.51.100.1/32 (table 254)"),
        (DEFAULT, "the route to 0.0.0.0/0 via 198.51.100.1 (table 254)"),
        (
            route("10.0.0.0/8", Hop("eth1", via=(socket.AF_INET6, "fe80::1")), priority=7),
            "the route to 10.0.0.0/8 via fe80::1 (table 254)",
        ),
    ],
)
def test_entries_are_told_to_people(entry, words):
    assert describe(entry) == words
