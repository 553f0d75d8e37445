"""Members ask their switch who else is there."""

import json

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ExitCode, NotReachable
from vswitch.management.client import request
from vswitch.members.protocol import MAX_PEERS, Peers, encode_control


async def ask(site, name="pc1"):
    """What that member is told now that the switch has looked into its registry."""
    await trio.to_thread.run_sync(request, site.files.control_socket, "revoked")
    path = site.join_config(name).files.join_socket(name)
    return (await trio.to_thread.run_sync(request, path, "peers"))["members"]


async def test_each_member_is_told_of_all(site, until, capsys):
    async with site.serving() as running, site.joined("pc1", running) as one:
        async with site.joined("pc2", running) as other:
            told = await ask(site)
            assert told == await ask(site, "pc2")
            assert told == [
                {"name": name, "state": "up", "address": address, "mac": member.interface.mac}
                for name, address, member in (
                    ("pc1", "10.77.0.2", one),
                    ("pc2", "10.77.0.3", other),
                )
            ]
        await until(lambda: len(running.switch.ports) == 1)
        assert [each["state"] for each in await ask(site)] == ["up", "away"]
        argv = ["members", "--state", str(site.path / "pc1")]
        assert await trio.to_thread.run_sync(main, argv) == ExitCode.OK
        head, *lines = capsys.readouterr().out.splitlines()
        assert head.split() == ["NAME", "ADDRESS", "MAC", "STATE"]
        assert [line.split()[0] for line in lines] == ["pc1", "pc2"]
        assert await trio.to_thread.run_sync(main, [*argv, "--json"]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out)["lans"]["pc1"][1]["state"] == "away"


@pytest.mark.parametrize("apart", ["pc1", "pc2"])
@pytest.mark.parametrize("said", [{"isolated": "yes"}, {"vlan": "10"}])
async def test_who_is_kept_apart_is_told_of_nobody_and_nobody_of_them(site, apart, said):
    async with site.serving() as running, site.joined("pc1", running):
        async with site.joined("pc2", running):
            running.managed.change_port(apart, said)
            for name in ("pc1", "pc2"):
                assert [each["name"] for each in await ask(site, name)] == [name]


async def test_many_are_told_in_several_answers(site):
    async with site.serving() as running, site.joined("pc1", running):
        for number in range(2 * MAX_PEERS):
            key = number.to_bytes(32, "big")
            await trio.to_thread.run_sync(running.registry.enrol_local, key, f"x{number}", 0.0)
        told = await ask(site)
        assert len({each["name"] for each in told}) == len(told) == 2 * MAX_PEERS + 1


async def test_an_older_switch_cannot_say_it(site, monkeypatch):
    monkeypatch.setattr("vswitch.members.device.AFTER_HELLO", frozenset())
    monkeypatch.setattr("vswitch.joining.connection.PEERS_TIMEOUT", 0.2)
    async with site.serving() as running, site.joined("pc1", running):
        with pytest.raises(NotReachable, match="an older one cannot"):
            await ask(site)


def test_the_longest_answer_fits_a_record():
    longest = f"{'x' * 63} away 255.255.255.255/32 02:00:00:00:00:01"
    assert encode_control(Peers((longest,) * MAX_PEERS, more=True))


@pytest.mark.parametrize(
    "wrong", ["", "pc2", "PC2 up - -", "pc2 on - -", "pc2 up x -", "pc2 up - 02:00", "pc2 up - - -"]
)
def test_what_is_no_member_is_refused(wrong):
    with pytest.raises(ValueError, match="no"):
        Peers((wrong,))
