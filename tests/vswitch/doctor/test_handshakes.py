"""Looks at a switch, and `leave`, shake hands as they are told: `--pq` is theirs as well."""

import json

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ExitCode

UNLIKE = [("off", "require"), ("require", "off")]  # the switch's --pq, and ours


async def call(capsys, *argv):
    """A command of ours, in a thread: its exit code and what it prints."""
    code = await trio.to_thread.run_sync(main, list(argv))
    return code, capsys.readouterr()


@pytest.fixture
async def known(site):
    """The state of a host that has been a member."""
    async with site.serving() as running, site.joined("pc1", running):
        pass
    return site.path / "pc1"


def again(site, path, **options):
    """The same switch, at the place where that member looks for it."""
    profile = (path / "members" / "pc1.toml").read_text()
    place = profile.split('server = "')[1].split('"')[0]
    return site.serving(listen=place, **options)


@pytest.mark.parametrize("command", ["doctor", "netcheck"])
@pytest.mark.parametrize(("theirs", "ours"), UNLIKE)
async def test_a_look_finds_that_there_is_no_common_handshake(
    site, known, capsys, command, theirs, ours
):
    argv = (command, "pc1", "--state", str(known), "--json")
    async with again(site, known, pq=theirs):
        code, printed = await call(capsys, *argv, "--pq", ours)
        findings = {each["id"]: each["seen"] for each in json.loads(printed.out)["findings"]}
        assert code == ExitCode.FAILED
        assert f"--pq {ours}" in findings["no-common-handshake"]
        assert not findings.keys() & {"no-answer", "not-a-member", "refused"}
        _, printed = await call(capsys, *argv)
        ids = {each["id"] for each in json.loads(printed.out)["findings"]}
        assert "no-common-handshake" not in ids


@pytest.mark.parametrize(("theirs", "ours"), UNLIKE)
async def test_who_leaves_asks_no_switch_otherwise(site, known, capsys, theirs, ours):
    argv = ("leave", "pc1", "--state", str(known))
    async with again(site, known, pq=theirs) as running:
        code, printed = await call(capsys, *argv, "--pq", ours)
        assert code == ExitCode.NOT_REACHABLE
        assert f"--pq {ours}" in printed.err
        assert running.registry.named("pc1") is not None
        code, _ = await call(capsys, *argv)
        assert code == ExitCode.OK
        assert running.registry.named("pc1") is None
