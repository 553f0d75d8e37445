"""The key of a switch on the disk: cut short anywhere, there is one that members can come to."""

from contextlib import nullcontext

import pytest
from attrs import evolve

from transport import create_key_file, load_key_file
from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError, VswitchError
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Grace, Invite, LastServed
from vswitch.serving import switch_keys
from vswitch.serving.switch_keys import GRACE, forget_old, load, replace, settle
from vswitch.state import StateDir, write_file

NOW = 1_000_000.0


@pytest.fixture
def files(tmp_path):
    files = StateDir(tmp_path / "state")
    files.ensure()
    return files


@pytest.fixture
def registry(files):
    with Registry.open(files.registry) as registry:
        key = load(files).public
        registry.record_served(
            LastServed((HostPort("::", 7450),), (), ServeConfig().subnet, key=key)
        )
        yield registry


def started(files, registry, now=NOW):
    """As the next start of the switch finds it."""
    return settle(load(files), files, registry, now)


def test_a_switch_has_one_key(files, registry):
    keys = started(files, registry)
    assert (keys.old, keys.grace, keys.origin) == (None, None, None)
    assert keys.identities == (keys.key,)
    assert keys.public == load_key_file(files.server_key).public


def test_the_old_key_is_good_until_the_end_of_the_grace(files, registry):
    first = started(files, registry)
    keys = replace(first, files, registry, NOW, 100.0)
    # However far the clock has been set: what counts is how long the switch has served.
    for each in (keys, *(started(files, registry, now) for now in (NOW + 1e9, NOW - 1e9))):
        assert each.public == keys.public != first.public
        assert [key.public for key in each.identities] == [keys.public, first.public]
        assert each.grace == Grace(first.public, NOW, 100.0)
        assert each.origin == first.public
    assert files.old_server_key.stat().st_mode & 0o777 == 0o600
    registry.record_served(evolve(registry.served(), grace=evolve(keys.grace, left=0.0)))
    late = started(files, registry)  # it could not be ended in time
    assert (late.public, late.old, late.grace) == (keys.public, None, None)
    assert late.origin == first.public
    assert not files.old_server_key.exists()


def test_the_first_key_stays_known(files, registry):
    first = started(files, registry)
    keys = forget_old(replace(first, files, registry, NOW, 100.0), files)
    assert not files.old_server_key.exists()
    keys = replace(keys, files, registry, NOW, 100.0)
    assert keys.origin == started(files, registry).origin == first.public


def test_without_a_grace_there_is_no_old_key(files, registry):
    first = started(files, registry)
    keys = replace(first, files, registry, NOW, 0.0)
    assert not files.old_server_key.exists()
    again = started(files, registry)
    assert (again.public, again.old, again.origin) == (keys.public, None, first.public)
    assert keys.public != first.public


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("crash", [True, False])
def test_cut_short_anywhere_the_members_key_is_good(files, registry, monkeypatch, step, crash):
    """By a disk that takes no more, or by a crash: then things stay as they were at that step."""
    first, left = started(files, registry), step
    there = None

    def limited(call):
        def counted(*args):
            nonlocal left, there
            if left == 0:
                paths = files.server_key, files.old_server_key
                there = {path: path.read_bytes() for path in paths if path.exists()}
                there = there, registry.served()
                left = -1
                raise VswitchError("full")
            left -= 1
            return call(*args)

        return counted

    monkeypatch.setattr(switch_keys, "write_file", limited(switch_keys.write_file))
    monkeypatch.setattr(Registry, "record_served", limited(Registry.record_served))
    with pytest.raises(VswitchError) if step < 3 else nullcontext():
        replace(first, files, registry, NOW, 100.0)
    monkeypatch.undo()
    if crash and there is not None:
        for path, data in there[0].items():
            write_file(path, data)
        registry.record_served(there[1])
    keys = started(files, registry)
    assert first.public in [each.public for each in keys.identities]
    assert (keys.old is not None) == files.old_server_key.exists() == (step == 3)
    assert replace(forget_old(keys, files), files, registry, NOW, 100.0).old is not None


def test_an_old_key_of_which_the_registry_does_not_know_is_good_for_the_usual_time(files, registry):
    old, served = create_key_file(files.old_server_key), registry.served()
    # The registry is of before the change, or of another one.
    for noted in (
        evolve(served, key=old.public),
        evolve(served, grace=Grace(served.key, 1.0, 0.0)),
    ):
        registry.record_served(noted)
        keys = started(files, registry)
        assert keys.grace == Grace(old.public, NOW, GRACE)


def test_an_old_key_that_was_forgotten_does_not_come_back(files, registry, caplog):
    """A crash may bring its file back, or it could not be removed when its time was over."""
    first = started(files, registry)
    keys = replace(first, files, registry, NOW, 100.0)
    left = files.old_server_key.read_bytes()
    forget_old(keys, files)
    registry.record_served(evolve(registry.served(), key=keys.public, grace=None))
    write_file(files.old_server_key, left)
    assert started(files, registry).identities[1:] == ()
    assert not files.old_server_key.exists()
    assert f"switch-key-forgotten key={first.public.fingerprint()}" in caplog.text


def test_a_copy_that_an_attempt_has_left_is_not_good_after_a_theft(files, registry, monkeypatch):
    first = started(files, registry)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "record_served", failing)
        with pytest.raises(VswitchError, match="full"):
            replace(first, files, registry, NOW, 100.0)
    assert files.old_server_key.exists()
    stolen = first.public
    keys = replace(first, files, registry, NOW, 0.0)
    assert not files.old_server_key.exists()
    assert stolen != keys.public
    assert [each.public for each in started(files, registry).identities] == [keys.public]


def test_copies_of_a_key_that_a_kill_has_left_do_not_outlive_it(files, registry):
    new, old = (files.path / f".{name}.a_0bcdef" for name in ("server.key", "server.key.old"))
    for path in (new, old):
        path.write_bytes(files.server_key.read_bytes())
    keys = load(files)
    assert not new.exists()
    assert not old.exists()
    old.write_bytes(files.server_key.read_bytes())
    forget_old(keys, files)
    assert not old.exists()


def failing(*_):
    raise VswitchError("full")


@pytest.mark.parametrize("cut_short", [True, False])
def test_an_end_that_the_next_start_carries_out_is_that_of_all_networks(
    files, registry, tmp_path, cut_short
):
    """One that was cut short before it had cancelled the invites, or had forgotten the key."""
    keys = replace(started(files, registry), files, registry, NOW, 100.0)
    with Registry.open(tmp_path / "lab.sqlite") as lab:
        for each in (registry, lab):
            for number, made in enumerate((NOW - 1, NOW + 1)):
                key = bytes([number])
                each.add_invite(Invite(key * 8, key * 32, f"pc{number}", made, NOW + 1000))
        if cut_short:
            forget_old(keys, files)
        else:
            registry.record_served(evolve(registry.served(), grace=evolve(keys.grace, left=0.0)))
        settle(load(files), files, registry, NOW + 1, [lab])
        for each in (registry, lab):
            assert [invite.name for invite in each.open_invites(NOW)] == ["pc1"]


def test_a_key_file_that_is_open_to_others_is_not_used(files):
    create_key_file(files.old_server_key)
    files.old_server_key.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        load(files)
