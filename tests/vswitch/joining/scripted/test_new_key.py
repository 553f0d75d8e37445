"""The switch has a new key: a member writes it down, says so, and goes by it."""

from contextlib import suppress

import pytest
import trio

from tests.vswitch.joining.scripted.test_connection_scripts import read
from transport import ChannelBroken, PrivateKey, PublicKey
from vswitch.errors import ByeCode, VswitchError
from vswitch.joining import profiles
from vswitch.joining.member import Member
from vswitch.members.protocol import Moved, Rekey, Welcome
from vswitch.registry.rules import EnrolRefused

NEW = PrivateKey.generate()
WELCOME = Welcome(name="pc1", port=1)


class Script:
    """A switch that says a key to each session that has come by another one."""

    def __init__(self, key=NEW.public):
        self.key = key
        self.moved = []
        self.heard = trio.Event()
        self.asked_for = []  # by each session
        self.channel = None

    async def __call__(self, device):
        device.on_control = self.hear
        self.channel = device.channel
        self.asked_for.append(device.channel.identity)
        device.send_control(WELCOME)
        if device.channel.identity != self.key:
            device.send_control(Rekey(self.key.text(), 2_000_000_000))
        with suppress(ChannelBroken):
            await read(device)

    def hear(self, message):
        if isinstance(message, Moved):
            self.moved.append(message)
            self.heard.set()


@pytest.fixture
def stored(stage):
    """The profile as another start of the join would find it."""
    stage.files.ensure()
    stage.files.key("pc1").write_text("")  # of the member, as if it had been made here

    def read():
        text = stage.files.profile("pc1").read_text()
        return PublicKey.from_text(text.partition('server_key = "')[2].partition('"')[0])

    profiles.store(stage.profile)
    return read


async def test_a_member_writes_the_new_key_down_and_comes_by_it(
    autojump_clock, stage, stored, nursery
):
    script = Script()
    async with stage.serving(script) as endpoint:
        endpoint.set_identities([NEW, stage.identity])
        member = stage.member()
        nursery.start_soon(member.run)
        with trio.fail_after(3600):
            await script.heard.wait()  # the disk has a time of its own
        assert script.moved == [Moved(NEW.public.text())]
        assert stored() == member.switch_key == NEW.public
        await trio.sleep(200)  # new keys every two minutes
        assert script.channel.identity == NEW.public
        assert len(stage.sessions) == 1
        endpoint.set_identities([NEW])
        script.channel.close()
        await trio.sleep(10)
    assert script.asked_for == [stage.identity.public, NEW.public]
    assert len(script.moved) == 1


async def test_what_cannot_be_written_down_is_not_gone_by(
    autojump_clock, stage, stored, nursery, monkeypatch, caplog
):
    tried, remember = trio.Event(), Member._remember_key

    def full(profile):
        raise VswitchError("the disk is full")

    async def attempt(*args):
        try:
            return await remember(*args)
        finally:
            tried.set()

    monkeypatch.setattr(profiles, "store", full)
    monkeypatch.setattr(Member, "_remember_key", attempt)
    script = Script()
    async with stage.serving(script) as endpoint:
        endpoint.set_identities([NEW, stage.identity])
        member = stage.member()
        nursery.start_soon(member.run)
        with trio.fail_after(3600):
            await tried.wait()
        await trio.sleep(200)
        assert script.moved == []
        assert "switch-key-not-kept" in caplog.text
        assert script.channel.identity == stored() == member.switch_key == stage.identity.public
        assert len(stage.sessions) == 1


async def test_a_key_is_written_down_in_the_same_session_once_the_disk_takes_it(
    autojump_clock, stage, stored, nursery, monkeypatch
):
    store, failures = profiles.store, ["full", "full"]

    def full_at_first(profile):
        if failures:
            raise VswitchError(failures.pop())
        return store(profile)

    monkeypatch.setattr(profiles, "store", full_at_first)
    script = Script()
    async with stage.serving(script) as endpoint:
        endpoint.set_identities([NEW, stage.identity])
        nursery.start_soon(stage.member().run)
        with trio.fail_after(36000):
            await script.heard.wait()
        assert stored() == NEW.public
        assert (failures, len(stage.sessions)) == ([], 1)


async def test_a_key_that_nobody_can_have_is_not_gone_by(
    autojump_clock, stage, stored, nursery, caplog
):
    script = Script(PublicKey(bytes(32)))
    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        await trio.sleep(200)
        assert (script.moved, stored()) == ([], stage.identity.public)
        assert "switch-key-not-kept" in caplog.text
        assert len(stage.sessions) == 1


async def test_a_switch_that_tells_many_keys_is_followed_slowly(
    autojump_clock, stage, stored, nursery, monkeypatch
):
    """Each is written to the disk."""
    followed, first = [], trio.Event()

    async def remember(self, channel, key):
        followed.append(key)
        first.set()
        return True

    class Flood(Script):
        async def __call__(self, device):
            device.send_control(WELCOME)
            for _ in range(10):
                device.send_control(Rekey(self.key.text(), 2_000_000_000))
            await super().__call__(device)

    monkeypatch.setattr(Member, "_remember_key", remember)
    async with stage.serving(Flood()):
        nursery.start_soon(stage.member().run)
        with trio.fail_after(3600):
            await first.wait()
        await trio.sleep(2.5)
        assert followed == [NEW.public] * 3
        assert len(stage.sessions) == 1


async def test_a_key_that_is_known_is_not_written_again(
    autojump_clock, stage, stored, nursery, monkeypatch
):
    class Again(Script):
        async def __call__(self, device):
            device.send_control(WELCOME)
            device.send_control(Rekey(self.key.text(), 2_000_000_000))
            await super().__call__(device)

    script, written = Again(stage.identity.public), []
    monkeypatch.setattr(profiles, "store", written.append)
    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        with trio.fail_after(3600):
            await script.heard.wait()
        assert script.moved == [Moved(stage.identity.public.text())]
        assert written == []


async def test_a_key_that_is_written_down_brings_it_back_though_the_switch_did_not_hear_so(
    autojump_clock, stage, stored
):
    """The old key ends in between: the goodbye is for who has no other."""

    class Deaf(Script):
        async def __call__(self, device):
            self.device = device
            assert len(self.asked_for) < 2
            await super().__call__(device)

        def hear(self, message):
            if isinstance(message, Moved) or len(self.asked_for) == 2:
                endpoint.set_identities([NEW])
                self.device.close(ByeCode.REKEYED, "the switch has another key now")

    script = Deaf()
    async with stage.serving(script) as endpoint:
        endpoint.set_identities([NEW, stage.identity])
        with pytest.raises(EnrolRefused, match="another key now"):
            await stage.member().run()
    assert script.asked_for == [stage.identity.public, NEW.public]
    assert stored() == NEW.public
