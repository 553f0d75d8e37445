"""What the API may cost is a share of the time, however much is asked."""

from vswitch.api.share import BURST, RATE, Share


def test_the_share_is_kept_and_what_was_saved_is_there_at_once():
    share, now, spent = Share(), 100.0, 0.0
    while now < 200.0:
        now += share.wait(now)
        share.spend(now, 0.002)
        spent += 0.002
        now += 0.002
    assert 0.9 * RATE * 100 < spent <= RATE * 101 + BURST
    assert share.wait(now) > 0
    assert share.wait(now + 1.0) == 0
    assert share.wait(now + 1000.0) == 0
    for _ in range(249):
        share.spend(now + 1000.0, 0.002)
    assert share.wait(now + 1000.0) == 0
    share.spend(now + 1000.0, 0.004)
    assert share.wait(now + 1000.0) > 0


def test_one_answer_does_not_close_it_for_long_and_a_clock_that_steps_back_adds_nothing():
    share = Share()
    for _ in range(6):
        share.spend(10.0, 1000.0)
    assert 0 < share.wait(10.0) < 2.1
    before = share.wait(10.0)
    assert share.wait(5.0) == before
    assert share.wait(10.0) == before
