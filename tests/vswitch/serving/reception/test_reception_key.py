"""Members that come by the switch's newest key, by the one before, or by one that is no more."""

import time

from transport import PrivateKey
from vswitch.errors import VswitchError
from vswitch.members.protocol import ByeCode, Hello, Leave, Moved, Rekey, Welcome
from vswitch.registry.rules import Grace

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")
NEW = PrivateKey.generate().public


def grace(house):
    return Grace(house.identity.public, time.time(), 3600.0)


async def test_who_comes_by_the_newest_key_is_told_nothing(house, until):
    house.reception.go_by_key(house.identity.public, None)
    key = house.member("pc1")
    async with house.visit(key) as guest:
        guest.say(HELLO)
        assert isinstance(await guest.hear(), Welcome)
        await until(lambda: house.registry.look_up(key.public.raw).switch_key is not None)
    assert house.registry.look_up(key.public.raw).switch_key == house.identity.public.raw


async def test_who_comes_by_the_old_key_is_told_the_new_one_and_its_answer_is_noted(
    house, until, nursery
):
    began = int(time.time())
    house.reception.go_by_key(NEW, grace(house))
    nursery.start_soon(house.reception.watch)
    key = house.member("pc1")

    def noted():
        return house.registry.look_up(key.public.raw).switch_key

    async with house.visit(key) as guest:
        guest.say(HELLO)
        assert isinstance(await guest.hear(), Welcome)
        told = await guest.hear()
        assert isinstance(told, Rekey)
        assert (told.key, 0 <= told.until - began - 3600 < 60) == (NEW.text(), True)
        await until(lambda: noted() == house.identity.public.raw)
        guest.say(Moved(house.identity.public.text()))  # that is not the newest
        guest.say(Moved(NEW.text()))
        await until(lambda: noted() == NEW.raw)
        house.reception.go_by_key(NEW, None)  # it has moved, so it stays
        await house.plugged()


async def test_at_the_end_of_the_grace_who_has_not_moved_is_told_why(house):
    house.reception.go_by_key(NEW, grace(house))
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        await house.plugged()
        house.reception.go_by_key(NEW, None)
        broken = await guest.end()
        assert broken.code == ByeCode.REKEYED
        assert "the switch has another key now" in broken.reason
        await house.plugged(0)


async def test_who_has_shaken_hands_with_a_key_that_is_no_more_is_refused(house):
    house.reception.go_by_key(NEW, None)
    async with house.visit(house.member("pc1")) as guest:
        guest.say(HELLO)
        code, reason = await guest.refusal()
        assert code is ByeCode.REKEYED
        assert "the switch has another key now" in reason


async def test_who_has_moved_is_noted_once_the_registry_takes_it(
    house, until, nursery, monkeypatch
):
    house.reception.go_by_key(NEW, grace(house))
    key, touch, failures = house.member("pc1"), house.registry.touch, ["locked", "locked"]

    def failing(keys, now, by=None):
        if by == NEW.raw and failures:
            raise VswitchError(failures.pop())
        touch(keys, now, by)

    monkeypatch.setattr(house.registry, "touch", failing)
    nursery.start_soon(house.reception.watch)
    async with house.visit(key) as guest:
        guest.say(HELLO)
        await house.plugged()
        guest.say(Moved(NEW.text()))
        await until(lambda: house.registry.look_up(key.public.raw).switch_key == NEW.raw)
    assert failures == []


async def test_who_leaves_is_forgotten_once_the_registry_takes_it(
    house, until, nursery, monkeypatch
):
    key, leave, failures = house.member("pc1"), house.registry.leave, ["locked"]

    def failing(key):
        if failures:
            raise VswitchError(failures.pop())
        leave(key)

    monkeypatch.setattr(house.registry, "leave", failing)
    nursery.start_soon(house.reception.watch)
    async with house.visit(key) as guest:
        guest.say(HELLO)
        await house.plugged()
        guest.say(Leave())
        await until(lambda: house.registry.look_up(key.public.raw) is None)
    assert failures == []
