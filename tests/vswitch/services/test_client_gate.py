"""Who may use a published service: lists, limits and rates, and how much of clients is known."""

import pytest

from vswitch.services import client_gate
from vswitch.services.client_gate import ClientGate
from vswitch.services.publish_rules import PublishLimits


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def gate(clock=None, **limits):
    return ClientGate(PublishLimits(**limits), clock or Clock())


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        ("203.0.113.9", None),
        ("::ffff:203.0.113.9", None),
        ("203.0.113.66", "denied"),
        ("::ffff:203.0.113.66", "denied"),
        ("192.0.2.1", "denied"),
        ("2001:db8::1", None),
        ("2001:db8:1::1", "denied"),
        ("fe80::1%eth0", "denied"),
    ],
)
def test_deny_goes_before_allow_and_what_is_not_allowed_is_denied(client, reason):
    allowed = gate(allow="203.0.113.0/24 2001:db8::/48", deny="203.0.113.66/32")
    assert allowed.enter(client) == reason


def test_without_lists_everybody_may():
    assert gate().enter("192.0.2.1") is None


def test_limits_of_the_rule_and_of_a_client_and_places_come_back():
    both = gate(max_connections=3, max_per_client=2)
    assert [both.enter("192.0.2.1") for _ in range(3)] == [None, None, "client_full"]
    assert both.enter("192.0.2.2") is None
    assert both.enter("192.0.2.3") == "full"
    both.leave("192.0.2.1")
    assert both.enter("192.0.2.1") is None
    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        both.leave(client)
    assert both.open == 0


def test_one_client_leaves_a_quarter_to_others_where_nobody_says_how_much_it_may_have():
    usual = gate(max_connections=8)
    assert [usual.enter("192.0.2.1") for _ in range(7)] == [None] * 6 + ["client_full"]
    assert [usual.enter(f"192.0.2.{number}") for number in (2, 3, 4)] == [None, None, "full"]
    alone = gate(max_connections=8, max_per_client="off")
    assert [alone.enter("192.0.2.1") for _ in range(9)] == [None] * 8 + ["full"]


def test_a_host_with_many_addresses_of_ipv6_is_one_client():
    one = gate(max_per_client=1)
    assert one.enter("2001:db8::1") is None
    assert one.enter("2001:db8::ffff:1") == "client_full"
    assert one.enter("2001:db8:0:1::1") is None
    one.leave("2001:db8::1")
    assert one.enter("2001:db8::ffff:1") is None


def test_rates_refuse_after_a_burst_and_let_in_as_time_passes():
    clock = Clock()
    slow = gate(clock, rate_per_client=2)
    said = [slow.enter("192.0.2.1") for _ in range(11)]
    assert said == [None] * 10 + ["client_rate"]
    assert slow.enter("192.0.2.2") is None  # another one has its own
    for _ in range(10):
        slow.leave("192.0.2.1")
    assert slow.enter("192.0.2.1") == "client_rate"  # to have closed is no way around
    clock.now = 0.5
    assert slow.enter("192.0.2.1") is None
    assert slow.enter("192.0.2.1") == "client_rate"
    total = gate(clock, rate=100)
    said = [total.enter(f"192.0.2.{number % 200}") for number in range(501)]
    assert said == [None] * 500 + ["rate"]


def test_clients_that_are_gone_are_forgotten_beyond_a_number(monkeypatch):
    monkeypatch.setattr(client_gate, "_REMEMBERED", 3)
    slow = gate(rate_per_client=0.1)
    for number in range(10):
        assert slow.enter(f"192.0.2.{number}") is None
        slow.leave(f"192.0.2.{number}")
    assert len(slow._gone) == 3
    assert not slow._here


def test_other_limits_hold_for_what_comes():
    changed = gate()
    assert changed.enter("192.0.2.1") is None
    changed.limits = PublishLimits(max_per_client=1, deny="192.0.2.2/32")
    assert changed.enter("192.0.2.1") == "client_full"
    assert changed.enter("192.0.2.2") == "denied"
    changed.leave("192.0.2.1")
    assert changed.enter("192.0.2.1") is None
