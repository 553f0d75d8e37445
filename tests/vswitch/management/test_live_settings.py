"""Settings of a running switch over its control socket, as `vswitch port` and `switch` ask."""

from functools import partial

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ConfigError, ExitCode
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
        for verb, what, complaint in [
            ("switch-set", {"gard": "yes"}, "unknown option"),
            ("port-set", {"vlan": "5000"}, r"port\.pc1\.vlan = "),
        ]:
            with pytest.raises(ConfigError, match=complaint):
                await say(site, verb, name="pc1", changes=what)
        assert (await say(site, "switch-set", changes={}))["settings"]["guard"] is True


async def test_the_commands_show_and_change_settings(site, capsys):
    async with site.serving():

        async def run(*words):
            argv = [*words, "--state", str(site.files.path)]
            code = await trio.to_thread.run_sync(main, argv)
            return code, capsys.readouterr()

        code, said = await run("switch", "set", "guard=yes")
        assert code == ExitCode.OK
        assert "guard = True" in said.out
        code, said = await run("switch", "show")
        assert "guard = True" in said.out
        code, said = await run("port", "set", "pc1", "mac-limit=5")
        assert "mac_limit = 5" in said.out
        for words in (("switch", "set"), ("port", "show", "pc1", "a=b"), ("switch", "set", "x")):
            code, said = await run(*words)
            assert code == ExitCode.USAGE
            assert "KEY=VALUE" in said.err
