"""Token buckets: WireGuard's expectations, bounds, and what counts as one address."""

import pytest

from transport.ratelimit import BucketTable, FairBucket, TokenBucket, address_key

RATE, BURST = 20, 5  # WireGuard's PACKETS_PER_SECOND and PACKETS_BURSTABLE

# WireGuard's selftest/ratelimiter.c: (seconds slept before the packet, is it allowed).
WIREGUARD = [
    *[(0.0, True)] * BURST,
    (0.0, False),
    (1 / RATE, True),
    (0.0, False),
    (2 / RATE, True),
    (0.0, True),
    (0.0, False),
]


@pytest.mark.parametrize("start", [0.0, 0.1, 12345.678, 4e6])
@pytest.mark.parametrize("host", ["10.0.0.1", "2001:db8::1"])
def test_wireguards_expectations(start, host):
    table, now = BucketTable(RATE, BURST), start
    for step, (pause, expected) in enumerate(WIREGUARD):
        now += pause
        assert table.allow(address_key(host), now) is expected, f"step {step}"


def test_wireguards_expectations_about_neighbours():
    table = BucketTable(RATE, BURST)

    def packet(host):
        return table.allow(address_key(host), 0.0)

    assert [packet("10.0.0.1") for _ in range(6)] == [True] * 5 + [False]
    assert packet("10.0.0.2")
    assert [packet("2001:db8:0:1::1") for _ in range(6)] == [True] * 5 + [False]
    assert not packet("2001:db8:0:1:ffff::9")  # the same /64
    assert packet("2001:db8:0:2::1")


def test_bucket_never_holds_more_than_the_burst():
    bucket = TokenBucket(RATE, BURST, 0.0)
    assert [bucket.allow(3600.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_long_run_rate_is_exact():
    bucket = TokenBucket(RATE, BURST, 1e6)
    allowed = sum(bucket.allow(1e6 + step / 1000) for step in range(10_000))
    assert allowed in (BURST + RATE * 10 - 1, BURST + RATE * 10)


def test_rounding_never_adds_up():
    # Ten thousand packets at exactly the rate; then it is still a bucket of five, not of six.
    bucket = TokenBucket(RATE, BURST, 0.0)
    assert sum(bucket.allow(0.0) for _ in range(10)) == BURST
    assert all(bucket.allow(step / RATE) for step in range(1, 10_000))
    assert not bucket.allow(9_999 / RATE)
    assert sum(bucket.allow(9_999 / RATE + 1.0) for _ in range(10)) == BURST


def test_clock_that_steps_back_adds_and_takes_nothing():
    bucket = TokenBucket(RATE, BURST, 100.0)
    assert all(bucket.allow(now) for now in (100.0, 50.0, 50.0, 0.0, 100.0))
    assert not bucket.allow(50.0)
    assert not bucket.allow(100.0)
    assert bucket.allow(100.05)


def test_cost():
    bucket = TokenBucket(100.0, 1000.0, 0.0)
    assert not bucket.allow(0.0, cost=1001)
    assert bucket.allow(0.0, cost=1000)
    assert not bucket.allow(0.0, cost=0.5)
    assert bucket.allow(5.0, cost=500)


def test_refusal_takes_nothing():
    bucket = TokenBucket(1.0, 2.0, 0.0)
    assert bucket.allow(0.0)
    assert not bucket.allow(0.0, cost=2)
    assert bucket.allow(0.0)


def test_table_is_bounded_and_forgets_the_least_recently_used():
    table = BucketTable(RATE, 1, capacity=3)
    for key in (b"a", b"b", b"c"):
        assert table.allow(key, 0.0)
    assert not table.allow(b"a", 0.0)  # used again: b is now the oldest
    assert table.allow(b"d", 0.0)
    assert (len(table), table.forgotten) == (3, 1)
    assert not table.allow(b"a", 0.0)
    assert table.allow(b"b", 0.0)  # had been forgotten


def test_default_capacity_holds_under_a_flood():
    table = BucketTable(RATE, BURST)
    for number in range(10_000):
        assert table.allow(number.to_bytes(4, "big"), 0.0)
    assert (len(table), table.forgotten) == (8192, 10_000 - 8192)


@pytest.mark.parametrize(
    ("rate", "burst", "capacity"), [(0, 5, 1), (-1, 5, 1), (1, 0, 1), (1, 5, 0)]
)
def test_impossible_settings(rate, burst, capacity):
    with pytest.raises(ValueError, match="must be"):
        BucketTable(rate, burst, capacity)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "c0000201"),
        ("::ffff:192.0.2.1", "c0000201"),
        ("::FFFF:192.0.2.1", "c0000201"),
        ("::ffff:192.0.2.1%eth0", "c0000201"),
        ("::ffff:c000:201", "c0000201"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("::", "0000000000000000"),
    ],
)
def test_address_key(host, key):
    assert address_key(host).hex() == key


@pytest.mark.parametrize(
    "host", ["", "localhost", "192.0.2.1:80", "[::1]", "192.0.2.256", "::ffff:192.0.2.256"]
)
def test_address_key_takes_addresses_only(host):
    with pytest.raises(ValueError, match="address"):
        address_key(host)


# --- Shared fairly ---------------------------------------------------------------------------


def shared(**settings):
    return FairBucket(**{"rate": 500, "burst": 500, "memory": 2.5, "now": 0.0} | settings)


def test_one_key_alone_gets_half_at_once_and_leaves_the_rest_to_others():
    bucket = shared()
    assert sum(bucket.allow(0.0, b"one") for _ in range(1000)) == 250
    assert sum(bucket.allow(0.0, b"two") for _ in range(1000)) == 125
    assert bucket.allow(0.0, b"three")


def test_in_all_it_is_one_bucket():
    bucket = shared()
    assert sum(bucket.allow(0.0, b"%d" % number) for number in range(1000)) == 500
    assert sum(bucket.allow(1.0, b"%d" % number) for number in range(1000, 2000)) == 500


@pytest.mark.parametrize("hostile", [5, 50, 500])
def test_a_newcomer_passes_before_those_that_have_used_much(hostile):
    """Each of them asks a hundred times as often as it could be served."""
    bucket, step = shared(), 1 / (100 * 500)
    served = [0] * hostile
    for number in range(4 * 100 * 500):
        served[number % hostile] += bucket.allow(number * step, b"%d" % (number % hostile))
        if number > 100 * 500 and number % 5000 == 0:  # ten newcomers a second
            assert bucket.allow(number * step, b"new %d" % number)
    assert sum(served) <= 500 + 4 * 500
    assert max(served) <= 1.2 * min(served) + 3


def test_what_was_taken_is_forgotten_with_time():
    bucket = shared()
    while bucket.allow(0.0, b"one"):
        pass
    assert bucket.allow(0.5, b"one")
    assert sum(bucket.allow(100.0, b"one") for _ in range(1000)) == 250


def test_only_who_was_served_is_remembered_and_not_too_many_of_them():
    bucket = shared(capacity=100)
    served = sum(bucket.allow(0.0, b"%d" % number) for number in range(2000))
    assert served == 500
    assert len(bucket) == 100
    other = shared()
    assert [other.allow(0.0, b"one") for _ in range(251)][-1] is False
    for number in range(1000):
        other.allow(0.0, b"%d" % number)
    assert len(other) == 1 + 250


def test_a_clock_that_steps_back_adds_nothing_to_what_is_shared():
    bucket = shared(now=10.0)
    assert sum(bucket.allow(10.0, b"%d" % number) for number in range(1000)) == 500
    assert not bucket.allow(5.0, b"new")


def test_who_has_several_keys_is_held_to_the_one_that_has_taken_most():
    bucket = shared()
    assert sum(bucket.allow(0.0, b"same", b"%d" % number) for number in range(1000)) == 250
    assert not bucket.allow(0.0, b"same", b"new")
    assert not bucket.allow(0.0, b"new", b"same")
    assert bucket.allow(0.0, b"new")  # what was refused took nothing
    assert bucket.allow(0.0, b"0", b"another")
