"""`vswitch config` and `--save` against a switch that runs."""

import json
from functools import partial

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ExitCode

FILE = "[names]\nenabled = false\n[port.pc1]\nisolated = true\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def run(site, capsys):
    """A command, in a thread: its exit code, and what it has printed."""

    async def ask(*arguments):
        argv = [*arguments, "--state", str(site.files.path)]
        code = await trio.to_thread.run_sync(partial(main, argv))
        said = capsys.readouterr()
        return code, said.out, said.err

    return ask


async def test_live_changes_are_told_kept_and_taken_back(site, file, run):
    async with site.serving(config=file) as running:
        await run("port", "set", "pc1", "isolated=yes")  # as the file says, in other words
        assert await run("config", "diff") == (ExitCode.OK, "no difference\n", "")
        await run("config", "reload", "--revert")
        assert "--save keeps it" in (await run("port", "set", "pc2", "isolated=yes"))[1]
        assert "# saved" in (await run("port", "set", "pc3", "isolated=yes", "--save"))[1]
        said = (await run("port", "show", "pc2"))[1]
        assert said == "[port.pc2]\nisolated = true  # live, not saved\n"
        said = (await run("port", "show", "pc3"))[1]
        assert said == "[port.pc3]\nisolated = true  # saved\n"
        file.write_text(FILE + "[switch]\nguard = true\n")
        code, out, _ = await run("config", "diff")
        assert code == ExitCode.FAILED
        assert out == (
            "a reload would change:\n  switch.guard: none -> true\n"
            "changed live, not saved:\n  port.pc2.isolated: none -> true\n"
            "saved, over the file:\n  port.pc3.isolated: none -> true\n"
        )
        file.write_text(file.read_text() + "[port.pc2]\nisolated = false\n")
        assert await run("config", "diff") == (code, out, "")  # what is live lies over that
        file.write_text(FILE + "[switch]\nguard = true\n")
        code, out, _ = await run("config", "reload")
        assert (code, out) == (ExitCode.OK, "1 changed:\n  switch.guard: none -> true\n")
        assert (await run("config", "reload"))[1] == "nothing has changed\n"
        out = (await run("config", "show"))[1]
        assert out.splitlines()[1:] == [
            "[names]",
            "enabled = false  # file",
            "",
            "[port.pc1]",
            "isolated = true  # file",
            "",
            "[port.pc2]",
            "isolated = true  # live",
            "",
            "[port.pc3]",
            "isolated = true  # saved",
            "",
            "[switch]",
            "guard = true  # file",
        ]
        assert (await run("config", "save"))[1] == "saved: 2 keys over the file\n"
        assert (await run("config", "diff"))[0] == ExitCode.OK
        assert running.reloader.configuration.unsaved() == []
        file.write_text("[port.pc1]\nisolated = 7\n")
        code, _, said = await run("config", "reload")
        assert code == ExitCode.USAGE
        assert f"{file}:2: port.pc1.isolated = 7" in said


async def test_what_differs_in_tables_and_lists_is_told(site, file, run):
    rules = [f"deny pc{number} -> pc{number + 1} tcp 22,80,443" for number in range(5)]
    publish = "[[publish]]\nlisten = 'tcp://127.0.0.1:1'\nto = 'pc1:1'\n"
    file.write_text(f"{FILE}[rules]\ndefault = 'allow'\nlist = {rules}\n")
    async with site.serving(config=file):
        changed = [*rules[1:3], "deny a -> b", *rules[3:]]
        file.write_text(f"{FILE}{publish}[rules]\nlist = {changed}\ntests = ['a -> b denied']\n")
        _, out, _ = await run("config", "diff")
        assert out == (
            "a reload would change:\n"
            '  publish."tcp://127.0.0.1:1".listen: none -> "tcp://127.0.0.1:1"\n'
            '  publish."tcp://127.0.0.1:1".to: none -> "pc1:1"\n'
            '  rules.default: "allow" -> none\n'
            "  rules.list:\n"
            f'    - "{rules[0]}"\n'
            '    + "deny a -> b"\n'
            '  rules.tests: none -> ["a -> b denied"]\n'
        )
        file.write_text(FILE + "[network.lab]\n")
        assert "  network.lab: none -> {}\n" in (await run("config", "diff"))[1]


async def test_check_says_all_that_is_wrong(file, run):
    assert (await run("config", "check", str(file)))[0] == ExitCode.OK
    said = json.loads((await run("config", "check", str(file), "--json"))[1])
    assert said == {"schema": 1, "file": str(file)}
    file.write_text(
        "[serve]\nmtu = 3\n[port.pc1]\nisolated = 7\n[network.lab]\nmtu = 4\n"
        "[network.lab.switch]\nguards = true\n"
    )
    code, _, said = await run("config", "check", str(file))
    assert code == ExitCode.USAGE
    for place in (
        ":2: serve.mtu",
        ":4: port.pc1.isolated",
        ":6: network.lab.mtu",
        ":8: network.lab.switch",
    ):
        assert f"{file}{place}" in said


@pytest.mark.parametrize(
    "argv", [("config", "check"), ("config", "show", "x"), ("config", "show", "--revert")]
)
async def test_operands_that_do_not_fit(argv, run):
    assert (await run(*argv))[0] == ExitCode.USAGE


async def test_a_member_is_shown_with_its_options(site, run):
    async with (
        site.serving() as running,
        site.joined("pc1", running, host="switch", lane="auto"),
    ):
        show = ("config", "show", "--join")
        assert await run(*show, "pc1") == (
            ExitCode.OK,
            '# file none\n[join]\nlane = "auto"  # option\nname = "pc1"  # option\n'
            f'state = "{site.files.path}"  # option\n',
            "",
        )
        assert json.loads((await run(*show, "pc1", "--json"))[1])["saved_file"] is None
        for wrong, code, why in (
            ((*show, "pc2"), ExitCode.NOT_REACHABLE, "vswitch join --name pc2"),
            ((*show, "../x"), ExitCode.USAGE, "--join ../x: a name is 1 to 63"),
            (("config", "reload", "--join", "pc1"), ExitCode.USAGE, "--join is for show"),
        ):
            found, _, text = await run(*wrong)
            assert (found, why in text) == (code, True), text
