"""Which paths are asked, and when: UDP first, HTTPS beside it, back to UDP, never to and fro."""

from math import inf

import pytest

from vswitch.joining.paths import (
    ASK_INTERVAL,
    ASK_LIMIT,
    LASTS,
    UDP_PATIENCE,
    PathPolicy,
)


@pytest.mark.parametrize(
    ("wish", "https", "udp", "after"),
    [
        ("auto", True, True, UDP_PATIENCE),
        ("auto", False, True, inf),
        ("udp", True, True, inf),
        ("https", True, False, 0.0),
    ],
)
def test_what_an_attempt_asks(wish, https, udp, after):
    policy = PathPolicy(wish, https=https)
    assert (policy.takes_udp, policy.https_after()) == (udp, after)


def test_on_https_udp_is_asked_every_ten_seconds():
    policy = PathPolicy(https=True)
    asked = []
    policy.on_https(100.0)
    while len(asked) < 4:
        now = policy.ask_at
        policy.asked(now)
        policy.on_https(now)  # nothing has answered
        asked.append(now)
    assert asked == [100.0 + ASK_INTERVAL * n for n in (1, 2, 3, 4)]


def test_on_udp_nothing_is_asked():
    policy = PathPolicy(https=True)
    policy.on_udp(1.0)
    assert policy.ask_at == inf
    policy.on_https(2.0)
    policy.on_udp(3.0)
    assert policy.ask_at == inf


def test_who_wishes_for_https_stays_there():
    policy = PathPolicy("https", https=True)
    policy.on_https(1.0)
    assert policy.ask_at == inf


def changes(policy, now, count, lasted):
    """The waits before UDP was asked, where it answers each time and is cut after `lasted`."""
    waits = []
    for _ in range(count):
        policy.on_https(now)
        waits.append(policy.ask_at - now)
        now = policy.ask_at
        policy.asked(now)
        policy.on_udp(now)
        now += lasted
    return waits, now


def test_udp_that_does_not_last_is_asked_less_and_less():
    waits, now = changes(PathPolicy(https=True), 0.0, 8, LASTS / 2)
    assert waits == [min(ASK_LIMIT, ASK_INTERVAL * 2**n) for n in range(8)]
    assert now > 0


def test_udp_that_lasts_is_asked_as_at_first():
    policy = PathPolicy(https=True)
    assert changes(policy, 0.0, 10, LASTS)[0] == [ASK_INTERVAL] * 10
    _, now = changes(policy, 1000.0, 4, LASTS / 2)
    assert changes(policy, now, 3, LASTS + 1)[0][1:] == [ASK_INTERVAL] * 2
