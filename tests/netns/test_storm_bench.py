"""The benchmark of storms runs, and the limits do what they say; how fast, it prints."""

import pytest

from benchmarks.storms import measure


@pytest.mark.long
@pytest.mark.netns("iperf3", "ping", "ss")
def test_others_are_served_beside_a_storm():
    alone, limited, unlimited = measure("broadcast", 20_000, 5, 2)
    for row in (alone, limited, unlimited):
        print(row)
        assert row["mbit"] > 0
    assert limited["dropped"] > 0
    assert limited["storm"] > 0
