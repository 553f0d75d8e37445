"""The guards decide as a slow judge does that reads a frame byte by byte."""

from collections import Counter

from tests.vswitch.features.guard_frames import frame, judged, record, rules, seeded
from vswitch.features.guards import GuardDrop, judge_untrusted

FRAMES = 120_000


def test_guards_agree_with_the_reference():
    rng = seeded(20261122)
    seen = Counter()
    for number in range(FRAMES):
        if number % 20 == 0:
            its = rules(rng)
        data = frame(rng)
        expected = judged(data, its)
        assert judge_untrusted(record(rng, data), its) == expected, (data.hex(), its)
        seen[expected] += 1
    # The generator reaches everything, and does not drown it.
    assert min(seen[reason] for reason in GUARDED) > 500, seen
    assert seen[None] > FRAMES // 5


GUARDED = (
    GuardDrop.SOURCE_GUARD,
    GuardDrop.ARP_CHECK,
    GuardDrop.DHCP_GUARD,
    GuardDrop.RA_GUARD,
    GuardDrop.GUARD_UNDETERMINED,
)
