"""What the API may cost is a share of the time, however much is asked."""

import time

import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.api.gate import Gate
from vswitch.api.http import PATIENCE, Api
from vswitch.api.roles import Role
from vswitch.api.share import BURST, RATE, STRANGERS_RATE, Share
from vswitch.api.table import Route, Subject, Table
from vswitch.api.tokens import TokenStore
from vswitch.management.workers import run_sync
from vswitch.web.requests import Request


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


async def test_strangers_do_not_use_up_what_callers_need_who_are_known(tmp_path, autojump_clock):
    async def answer(call):
        return {}

    async def body(limit):
        return b""

    rows = [Route("GET", f"/{role.text}", role, dict, "", answer) for role in Role]
    store = TokenStore(tmp_path / "tokens")
    known = {"authorization": f"Bearer {store.create('page', Role.READ)}"}
    store.note_use("page")  # so that nobody waits for a thread, while the clock jumps
    subject = Subject(Gate(store))
    api = Api(subject, Table(rows))

    async def ask(path, **headers):
        request = Request("GET", path, "", headers, "192.0.2.1", body)
        return (await api.find(request)(request)).status

    for _ in range(1000):
        subject.strangers.spend(trio.current_time(), 1.0)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, "/open")
        await wait_all_tasks_blocked()
        assert await ask("/read", **known) == 200
        assert trio.current_time() == began
        assert await ask("/open") == 503
        assert trio.current_time() == began + PATIENCE


async def test_what_threads_do_for_an_answer_is_of_the_share_too(tmp_path, mock_clock):
    def busy():
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    async def answer(call):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_sync, busy)
        return {}

    async def body(limit):
        return b""

    subject = Subject(Gate(TokenStore(tmp_path / "tokens")))
    api = Api(subject, Table([Route("GET", "/busy", Role.OPEN, dict, "", answer)]))
    request = Request("GET", "/busy", "", {}, "192.0.2.1", body)
    for number in range(3):
        assert subject.strangers.wait(trio.current_time()) == 0, number
        assert (await api.find(request)(request)).status == 200
    assert subject.strangers.wait(trio.current_time()) > 0.1 / STRANGERS_RATE


def test_no_answer_costs_more_than_a_pause_brings():
    share = Share()
    share.spend(10.0, 0.05, 1000.0)
    assert share.wait(10.0) == 0
    share.spend(10.0, 0.0, 1000.0)
    assert 0 < share.wait(10.0) <= BURST / RATE
