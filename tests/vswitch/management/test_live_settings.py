"""Settings of a running switch over its control socket, as `vswitch port` and `switch` ask."""

import tomllib
from functools import partial

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ConfigError, ExitCode
from vswitch.features.settings import Settings
from vswitch.management.client import request


async def say(site, verb, **args):
    return await trio.to_thread.run_sync(partial(request, site.files.control_socket, verb, **args))


async def test_settings_are_shown_and_changed(site):
    async with site.serving():
        shown = await say(site, "switch-set", changes={})
        assert shown["settings"]["guard"] is False
        changed = await say(site, "switch-set", changes={"guard": "yes"})
        assert changed["settings"]["guard"] is True
        said = await say(site, "port-set", name="pc1", changes={"isolated": "yes"})
        assert said["settings"]["isolated"] is True
        with pytest.raises(ConfigError, match="unknown option"):
            await say(site, "switch-set", changes={"gard": "yes"})
        with pytest.raises(ConfigError, match=r"port\.pc1\.vlan = "):
            await say(site, "port-set", name="pc1", changes={"vlan": "5000"})
        for name in ("", "a\0b", "a/b", "a b", "pörtchen", 129 * "x"):
            with pytest.raises(ConfigError, match=r"no port can be called so|is empty"):
                await say(site, "port-set", name=name, changes={"isolated": "yes"})
        assert (await say(site, "switch-set", changes={}))["settings"]["guard"] is True


async def test_the_commands_show_and_change_settings(site, capsys):
    async with site.serving():

        async def run(*words):
            argv = [*words, "--state", str(site.files.path)]
            code = await trio.to_thread.run_sync(main, argv)
            return code, capsys.readouterr()

        code, said = await run("switch", "set", "guard=yes")
        assert code == ExitCode.OK
        assert said.out.splitlines()[:2] == ["[switch]", "guard = true"]
        code, said = await run("switch", "show")
        assert said.out == "[switch]\nguard = true  # live, not saved\n"
        code, said = await run("port", "set", "pc1", "mac-limit=5")
        assert said.out.splitlines()[:2] == ["[port.pc1]", "mac_limit = 5"]
        assert "until the switch ends" in said.out
        await run("port", "set", "*", "rate-in=50M", "vlan=7")
        code, said = await run("port", "show", "pc1")
        lines = said.out.splitlines()
        assert lines[0] == "[port.pc1]"
        assert "mac_limit = 5  # live, not saved" in lines
        assert 'rate_in = "50M"  # [port."*"]' in lines
        assert "source_guard = true  # guard of [switch]" in lines
        assert len(lines) == 9
        code, said = await run("port", "show", "pc1", "--all")
        assert "mac_limit = 5" in said.out
        assert "storm_broadcast = 1000\n" in said.out
        assert "# frames a second that the member gets, as 10k, or off\n" in said.out
        await run("port", "set", "pc1", "trusted=yes")
        code, said = await run("port", "show", "pc1", "--all")
        assert "source_guard = false  # trusted\n" in said.out
        for words in (("switch", "set"), ("port", "show", "pc1", "a=b"), ("switch", "set", "x")):
            code, said = await run(*words)
            assert code == ExitCode.USAGE
            assert "KEY=VALUE" in said.err


async def test_what_is_shown_can_be_set_and_kept(site, capsys):
    changes = {
        "trunk": "10,20-30",
        "native": "5",
        "rate_in": "1.5M",
        "rate_out": "50m",
        "vlan": "none",
        "frames_in": "10k",
        "storm_broadcast": "off",
        "mirror": "pc2,pc3",
        "isolated": "yes",
        "addresses": "10.9.0.0/24 2001:db8::1",
        "macs": "02:00:5e:10:00:01",
        "sticky": "on",
        "static_macs": "02:00:5e:10:00:02@10,02:00:5e:10:00:03@20",
        "mac_limit": "7",
    }
    async with site.serving() as running, running.switch.open_port("pc1"):
        for flags, set_before in (([], changes), (["--all"], {})):
            await say(site, "port-set", name="pc1", changes=set_before)
            argv = ["port", "show", "pc1", *flags, "--state", str(site.files.path)]
            await trio.to_thread.run_sync(main, argv)
            table = tomllib.loads(capsys.readouterr().out)["port"]["pc1"]
            before = (await say(site, "port-set", name="pc1", changes={}))["in_force"]
            # As a file has it, and as words of a command line.
            for said in (table, {key: str(value) for key, value in table.items()}):
                settings = (
                    Settings().with_port("pc1", said).in_force("pc1", running.switch.ports[0])
                )
                shown = {each.key: each.text for each in settings}
                assert shown == {each["key"]: each["text"] for each in before}


async def test_a_number_means_the_same_port_to_all_commands(site, capsys):
    async with site.serving() as running, running.switch.open_port("bot"):

        async def run(*words):
            code = await trio.to_thread.run_sync(main, [*words, "--state", str(site.files.path)])
            return code, capsys.readouterr()

        number, mac = str(running.switch.ports[0].number), "02:00:00:00:00:0a"
        assert (await run("port", "set", number, "mac-limit=5"))[0] == ExitCode.OK
        assert (await say(site, "port-set", name="bot", changes={}))["settings"]["mac_limit"] == 5
        assert (await say(site, "mac-add", name=number, mac=mac))["name"] == "bot"
        assert [each["mac"] for each in (await say(site, "mac-list", port=number))["macs"]] == [mac]
        assert "flushed" in await say(site, "mac-flush", port=number)
        assert (await say(site, "impair", port=number, loss="1%"))["impaired"][0]["name"] == "bot"
        for words in (
            ("port", "set", "9", "mac-limit=5"),
            ("mac", "add", "9", mac),
            ("mac", "flush", "--port", "9"),
            ("impair", "9", "--loss", "1%"),
            ("capture", "9"),
        ):
            code, told = await run(*words)
            assert code == ExitCode.NOT_FOUND, words
            assert "no port 9" in told.err


async def test_settings_for_a_port_that_is_not_there_are_taken_with_a_word(site, capsys):
    async with site.serving() as running, running.switch.open_port("bot"):

        async def run(*words):
            await trio.to_thread.run_sync(main, ["port", *words, "--state", str(site.files.path)])
            return capsys.readouterr().err

        assert "no port is called bto now" in await run("set", "bto", "mac-limit=5")
        assert "no port is called bto now" in await run("show", "bto")
        assert await run("set", "bot", "mac-limit=5") == ""
        assert await run("set", "*", "mac-limit=5") == ""


async def test_an_address_for_a_port_that_is_not_there_is_taken_with_a_word(site, capsys):
    async with site.serving() as running, running.switch.open_port("bot"):

        async def run(name):
            words = ["mac", "add", name, "02:00:00:00:00:0a", "--state", str(site.files.path)]
            assert await trio.to_thread.run_sync(main, words) == ExitCode.OK
            return capsys.readouterr().err

        assert "no port is called bto now" in await run("bto")
        assert await run("bot") == ""
