"""`--network` of the commands that are about one network of a switch."""

import pytest

from vswitch.config.options import ServeConfig
from vswitch.errors import ExitCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed

OF_REGISTRY = [
    each.split()
    for each in (
        *("invite pc1", "members", "member show pc1", "revoke pc1", "rename pc1 pc2"),
        *("disable pc1", "enable pc1"),
    )
]
OF_RUNNING = [
    each.split()
    for each in (
        *("status", "port show pc1", "switch show", "capture --all", "counters", "events", "rules"),
        *("impair pc1", "trace pc1 pc2", "mac list", "publish", "unpublish tcp://:8080"),
    )
]


@pytest.fixture
def lab(files, switch):
    """Another network of the switch, as `serve` leaves it."""
    files.ensure_network("lab")
    with Registry.open(files.network("lab").registry) as registry:
        served = switch.served()
        registry.record_served(
            LastServed(served.listen, served.public, ServeConfig().subnet, key=served.key)
        )
        yield registry


@pytest.mark.parametrize("command", OF_REGISTRY + OF_RUNNING, ids=" ".join)
def test_a_network_that_is_not_there_is_said_to_be(command, run, lab):
    code, out, err = run(*command, "--network", "labs")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "there is no network labs in " in err
    assert "only default, lab:" in err


@pytest.mark.parametrize("command", OF_RUNNING, ids=" ".join)
def test_the_socket_of_that_network_is_asked(command, run, files, lab):
    code, _, err = run(*command, "--network", "lab")
    assert code == ExitCode.NOT_REACHABLE
    assert str(files.network("lab").path) in err


def test_members_and_invites_are_of_one_network(run, switch, lab, monkeypatch):
    code, _, err = run("invite", "pc1", "--network", "lab")
    assert code == ExitCode.OK
    assert "the member pc1 of the network lab" in err
    assert [each.name for each in lab.open_invites(0.0)] == ["pc1"]
    assert switch.open_invites(0.0) == []
    monkeypatch.setenv("VSWITCH_NETWORK", "lab")
    assert "pc1" in run("members")[1]
    assert run("revoke", "pc1", "--network", "default")[0] == ExitCode.NOT_FOUND
    assert run("revoke", "pc1")[0] == ExitCode.OK
    assert lab.open_invites(0.0) == []
