"""Where a join finds its switch, and what it leaves behind when it is refused."""

from __future__ import annotations

import os

import attrs
import pytest

from transport.crypto.identity import PrivateKey, create_key_file, load_key_file
from vswitch.addresses import HostPort
from vswitch.config.options import JoinConfig, ServeConfig
from vswitch.errors import ConfigError, ExitCode, NotFound, VswitchError
from vswitch.joining.profiles import discard, load, names, resolve, store
from vswitch.members.protocol import ByeCode
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, LastServed
from vswitch.state import StateDir

SERVICE = 65534  # a user
SERVER = PrivateKey.generate().public
WHERE = HostPort("switch.example.org", 7450)


@pytest.fixture
def files(tmp_path):
    return StateDir(tmp_path / "state")


def invite_string():
    return JoinString.new(SERVER, WHERE).encode()


def config(files, **options):
    return JoinConfig(**{"name": "pc1", "state": files.path, **options})


def test_an_invite_gives_a_pending_profile_with_a_key_on_the_disk(files):
    text = invite_string()
    profile = resolve(config(files, invite=text))
    assert (profile.servers, profile.server_key, profile.local) == ((WHERE,), SERVER, False)
    assert profile.invite == JoinString.parse_untrusted(text)
    assert load_key_file(files.key("pc1")).public == profile.private_key.public
    assert not files.profile("pc1").exists()
    assert files.path.stat().st_mode & 0o777 == 0o700
    assert files.key("pc1").stat().st_mode & 0o777 == 0o600


def test_trying_again_takes_the_same_key(files):
    text = invite_string()
    first, second = resolve(config(files, invite=text)), resolve(config(files, invite=text))
    assert first.private_key.public == second.private_key.public


def test_a_stored_profile_is_enough_afterwards(files):
    text = invite_string()
    pending = resolve(config(files, invite=text))
    assert store(pending).invite is None
    assert names(files) == ["pc1"]
    stored = resolve(config(files))
    assert (stored.servers, stored.server_key, stored.invite) == ((WHERE,), SERVER, None)
    assert stored.private_key.public == pending.private_key.public
    assert files.profile("pc1").stat().st_mode & 0o777 == 0o600
    secret = pending.invite.token_secret
    assert secret.hex() not in files.profile("pc1").read_text()


def test_the_same_string_again_is_the_stored_profile_and_another_is_not(files):
    text = invite_string()
    store(resolve(config(files, invite=text)))
    assert resolve(config(files, invite=text)).invite is None
    assert resolve(config(files, invite=invite_string())).invite is not None


def test_the_network_of_the_lan_is_remembered(files):
    profile = store(resolve(config(files, invite=invite_string())))
    assert load(files, "pc1").network == ""
    store(attrs.evolve(profile, network="10.77.0.0/24"))
    assert load(files, "pc1").network == "10.77.0.0/24"
    path = files.profile("pc1")
    path.write_text(path.read_text().replace("10.77.0.0/24", "10.77.0.0/33"))
    with pytest.raises(ConfigError, match=r"10\.77\.0\.0/33"):
        load(files, "pc1")
    # One that an earlier version has written knows none.
    path.write_text(path.read_text().partition("network")[0])
    assert load(files, "pc1").network == ""


def test_a_refused_enrolment_leaves_nothing_behind(files):
    profile = resolve(config(files, invite=invite_string()))
    assert discard(profile, ByeCode.INVITE_EXPIRED)
    assert list(files.members.iterdir()) == []
    assert discard(profile, ByeCode.INVITE_EXPIRED)  # again does no harm


@pytest.mark.parametrize("code", [ByeCode.ADDRESS_TAKEN, ByeCode.FULL, ByeCode.SERVER_ERROR])
def test_the_key_stays_where_the_switch_may_know_it(files, code):
    assert not discard(resolve(config(files, invite=invite_string())), code)
    assert files.key("pc1").exists()


def test_a_refused_second_invite_does_not_remove_the_first_membership(files):
    store(resolve(config(files, invite=invite_string())))
    again = resolve(config(files, invite=invite_string()))
    assert not discard(again, ByeCode.INVITE_USED)
    assert load(files, "pc1").servers == (WHERE,)


def test_nothing_to_go_by_says_what_to_do_and_makes_nothing(files):
    with pytest.raises(NotFound) as caught:
        resolve(config(files))
    assert "members in" in str(caught.value)
    assert "`vswitch invite pc1`" in str(caught.value)
    assert caught.value.exit_code == ExitCode.NOT_FOUND
    assert not files.path.exists()
    with pytest.raises(ConfigError, match="not a join string"):
        resolve(config(files, invite="nonsense"))
    assert not files.path.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = 'pc1'\n", "it must have name, server, server_key"),
        ("x = 1\n", "it must have"),
        ("name = \n", "line 1"),
        ("name = 'pc2'\nserver = 'a:1'\nserver_key = 'x'\n", "it is for 'pc2'"),
        ("name = 'pc1'\nserver = 'a'\nserver_key = 'x'\n", "the port is missing"),
        ("name = 'pc1'\nserver = 'a:1'\nserver_key = 'x'\n", "44 characters"),
        ("name = 'pc1'\nserver = 7\nserver_key = 'x'\n", "must be text"),
    ],
)
def test_a_damaged_profile_is_named(files, text, reason):
    files.ensure()
    files.profile("pc1").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(config(files))
    assert str(files.profile("pc1")) in str(caught.value)
    assert reason in str(caught.value)


def test_a_key_that_others_can_read_is_refused(files):
    store(resolve(config(files, invite=invite_string())))
    files.key("pc1").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve(config(files))
    files.key("pc1").unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        resolve(config(files))


def test_a_profile_of_a_name_that_is_a_path_is_never_looked_for(files):
    with pytest.raises(ValueError, match="a name is"):
        load(files, "../x")


@pytest.fixture
def switch(files):
    files.ensure()
    key = create_key_file(files.server_key).public
    registry = Registry.open(files.registry)
    served = LastServed((HostPort("::", 7000),), (), ServeConfig().subnet, key=key)
    registry.record_served(served)
    yield registry
    registry.close()


def test_on_the_host_of_the_switch_no_string_is_needed(files, switch):
    profile = resolve(config(files))
    assert (profile.servers, profile.local) == ((HostPort("127.0.0.1", 7000),), True)
    assert profile.server_key == load_key_file(files.server_key).public
    assert switch.named("pc1").key == profile.private_key.public.raw
    store(profile)
    assert names(files) == []
    assert resolve(config(files)).private_key.public == profile.private_key.public
    assert not discard(profile, ByeCode.UNKNOWN)


def test_a_switch_on_one_address_is_reached_there(files, switch):
    switch.record_served(attrs.evolve(switch.served(), listen=(HostPort("192.0.2.1", 7),)))
    assert resolve(config(files)).servers == (HostPort("192.0.2.1", 7),)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_root_joins_on_the_host_of_a_switch_that_another_user_runs(files, switch):
    for path in (files.path, files.members, files.server_key, files.registry):
        os.chown(path, SERVICE, SERVICE)
    files.server_key.write_text("for the switch alone")
    profile = resolve(config(files))
    assert profile.server_key == switch.served().key
    assert files.key("pc1").stat().st_uid == SERVICE
    assert resolve(config(files)).private_key.public == profile.private_key.public
    store(resolve(config(files, name="pc2", invite=invite_string())))
    assert files.profile("pc2").stat().st_uid == files.key("pc2").stat().st_uid == SERVICE
    assert load(files, "pc2").servers == (WHERE,)
    os.chown(files.key("pc2"), SERVICE + 1, SERVICE)
    with pytest.raises(ConfigError, match="belongs to user"):
        load(files, "pc2")
    with pytest.raises(ConfigError, match="belongs to another user"):
        files.ensure()  # `serve` is no guest


def test_a_local_refusal_leaves_no_key(files, switch):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    with pytest.raises(EnrolRefused, match="the name pc1 is taken"):
        resolve(config(files))
    assert not files.key("pc1").exists()
    resolve(config(files, name="pc2"))
    switch.revoke("pc2", 1.0)
    with pytest.raises(EnrolRefused, match="was revoked"):
        resolve(config(files, name="pc2"))
    assert files.key("pc2").exists()


def test_a_stored_profile_goes_before_the_local_switch(files, switch):
    store(resolve(config(files, invite=invite_string())))
    assert not resolve(config(files)).local


def test_a_switch_that_never_ran_is_named_with_what_to_do(files):
    files.ensure()
    create_key_file(files.server_key)
    Registry.open(files.registry).close()
    with pytest.raises(VswitchError, match="has never run"):
        resolve(config(files))
