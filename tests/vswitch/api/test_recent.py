"""Answers that several callers get: made once, and never from before something that has changed."""

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.vswitch.api.test_api import an_api
from vswitch.api import recent
from vswitch.api.recent import Recent
from vswitch.api.roles import Role


class Maker:
    """Makes answers that are numbers, each in `seconds`; and what may have changed meanwhile."""

    def __init__(self, seconds=0.0):
        self.recent, self.seconds, self.made, self.event = Recent(), seconds, 0, 0

    async def ask(self, kind="status"):
        return await self.recent.get(kind, lambda: self.event, self.make)

    async def make(self):
        self.made += 1
        number = self.made
        await trio.sleep(self.seconds)
        return number


async def test_one_answer_for_all_who_ask_at_once_and_a_moment_later(autojump_clock):
    maker, said = Maker(0.01), []

    async def ask():
        said.append(await maker.ask())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert said == [1] * 5
    assert await maker.ask() == 1
    assert await maker.ask("ports") == 2


async def test_who_waits_for_one_that_takes_long_gets_that(autojump_clock):
    maker, said = Maker(3 * recent.LIFE), []

    async def ask(after):
        await trio.sleep(after)
        said.append(await maker.ask())

    async with trio.open_nursery() as nursery:
        for after in (0.0, recent.LIFE, 2 * recent.LIFE, 4 * recent.LIFE):
            nursery.start_soon(ask, after)
    assert said == [1, 1, 1, 2]


async def test_an_answer_is_no_older_than_its_life_nor_what_is_made_of_it(autojump_clock):
    maker = Maker(recent.LIFE / 4)
    begun = (trio.current_time() // recent.LIFE + 1) * recent.LIFE
    await trio.sleep_until(begun + recent.LIFE / 8)
    assert await maker.ask() == 1
    await trio.sleep_until(begun + recent.LIFE * 0.9)
    whole = partial(maker.recent.get, "all", lambda: 0, maker.ask)
    assert await whole() == 1
    await trio.sleep_until(begun + recent.LIFE * 1.01)
    assert await whole() == 2
    assert await maker.ask() == 2


@pytest.mark.parametrize("what", ["change", "event"])
async def test_nothing_is_said_from_before_a_change(autojump_clock, monkeypatch, what):
    monkeypatch.setattr(recent, "LIFE", 1e12)
    maker = Maker(0.01)

    def change():
        if what == "change":
            maker.recent.changed()
        else:
            maker.event += 1

    assert await maker.ask() == 1
    change()
    assert await maker.ask() == 2
    change()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(maker.ask)
        await wait_all_tasks_blocked()
        change()  # while the third is made, whose maker has asked before
        assert await maker.ask() == 4
    assert await maker.ask() == 4


async def test_a_fault_is_for_who_met_it(autojump_clock):
    maker = Maker()

    async def fail():
        raise OSError

    with pytest.raises(OSError):
        await maker.recent.get("status", lambda: 0, fail)
    assert await maker.ask() == 1


async def test_who_goes_away_leaves_it_to_the_next(autojump_clock):
    maker = Maker(1.0)
    with trio.move_on_after(0.5):
        await maker.ask()
    assert await maker.ask() == 2


async def test_what_is_kept_is_bounded(autojump_clock):
    maker = Maker()
    for number in range(recent._MOST + 1):
        await maker.ask(number)
    assert len(maker.recent._kinds) == recent._MOST
    assert await maker.ask(recent._MOST) == recent._MOST + 1
    assert await maker.ask(0) == recent._MOST + 2


async def test_changes_and_events_are_in_the_next_answer_and_counters_in_a_moment(
    site, monkeypatch
):
    monkeypatch.setattr(recent, "LIFE", 1e12)
    async with an_api(site) as (client, running):
        ask = partial(client(Role.OPERATE), "GET")
        first = (await ask("/v1/status"))[1]
        assert (await client(Role.READ)("GET", "/v1/status"))[1] == first
        assert first["ports"] == []
        async with running.switch.open_port("one") as port:
            for path in ("/v1/status", "/v1/ports", "/v1/counters"):
                (one,) = (await ask(path))[1]["ports"]
                assert (one["name"], one["settings"]) == ("one", {})
            assert b'port="one"' in (await ask("/metrics"))[1]
            said, _, _ = await client(Role.OPERATE)("PATCH", "/v1/ports/one", {"isolated": True})
            assert said == 200
            (one,) = (await ask("/v1/ports"))[1]["ports"]
            assert one["settings"] == {"isolated": True}
            mac = "02:00:00:00:00:11"
            assert (await ask("/v1/macs"))[1]["macs"] == []
            said, _, _ = await client(Role.OPERATE)("POST", "/v1/macs", {"name": "one", "mac": mac})
            assert said == 200
            assert [each["mac"] for each in (await ask("/v1/macs"))[1]["macs"]] == [mac]
            assert (await ask("/v1/ports"))[1]["ports"][0]["rx_frames"] == 0
            await port.send(bytes.fromhex("ffffffffffff020000000011") + bytes(50))
            assert (await ask("/v1/ports"))[1]["ports"][0]["rx_frames"] == 0  # for its life
            monkeypatch.setattr(recent, "LIFE", 1e-9)
            assert (await ask("/v1/ports"))[1]["ports"][0]["rx_frames"] == 1
            await port.send(bytes.fromhex("ffffffffffff020000000011") + bytes(50))
            assert (await ask("/v1/ports"))[1]["ports"][0]["rx_frames"] == 2
        assert (await ask("/v1/status"))[1]["ports"] == []
