"""Another configuration for a switch that runs: applied whole, or nothing has changed."""

import itertools
import json
import logging
import re
import socket

import attrs
import pytest
import trio

from vswitch.config.document import Change, differences, flatten
from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError, VswitchError
from vswitch.serving.configuration import (
    RESTART,
    Configuration,
    check_restart,
    need_restart,
)
from vswitch.serving.server import serve
from vswitch.state import StateDir

BASE = "[names]\nenabled = false\n"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "serve.toml"
    path.write_text(BASE)
    return path


def serving(site, file, **options):
    """As the command does: what is not given is read from the file, also again."""
    return site.serving(config=file, **options)


def in_force(running, network="default"):
    """All that a reload could have changed."""
    it = running.networks[network]
    return (
        dict(it.managed.settings.ports),
        attrs.evolve(it.managed.settings.switch, rules=None),
        dict(it.managed.settings.switch.rules.table),
        {each.rule for each in it._publisher.rules},
        {(each.kind, each.name) for each in it.status.listeners},
        {name: service.goes_by for name, service in it.services._running.items()},
        (it.registry.max_members, it.switch.max_ports),
    )


def documents():
    """What an operator may have in turn."""
    first, second = free_port(), free_port()
    return [
        BASE,
        BASE + "[port.pc1]\nisolated = true\n",
        BASE + "[switch]\nguard = true\n[rules]\nlist = ['deny pc1 -> pc2']\n",
        BASE + f"[[publish]]\nlisten = 'tcp://127.0.0.1:{first}'\nto = '10.77.0.9:80'\n",
        BASE
        + f"[[publish]]\nlisten = 'tcp://127.0.0.1:{first}'\nto = '10.77.0.8:80'\nidle = '9m'\n"
        + f"[[publish]]\nlisten = 'udp://127.0.0.1:{second}'\nto = '10.77.0.9:80'\n",
        "[names]\ndomain = 'home'\nrecords = ['www A 10.77.0.9']\n[dhcp]\nenabled = true\n",
        "[names]\ndomain = 'lan'\n[adverts]\nenabled = true\n",
        BASE + "[[foreign]]\nkind = 'udp'\nlisten = '127.0.0.1:0'\n",
        BASE + "[[foreign]]\nkind = 'udp'\nlisten = '127.0.0.1:0'\nmax_ports = 3\n"
        "[[foreign]]\nkind = 'tcp'\nlisten = '127.0.0.1:0'\n",
        BASE + "[network.lab]\nmax_members = 7\n[network.lab.names]\nenabled = false\n",
        BASE + "[network.lab]\nmax_members = 9\n[network.lab.port.a]\nisolated = true\n",
    ]


async def test_whatever_is_in_force_a_reload_makes_it_what_the_file_says(site, file):
    texts = documents()
    wanted = {}
    for number, text in enumerate(texts):  # as if it had begun so
        file.write_text(text)
        async with serving(site, file) as running:
            wanted[number] = {name: in_force(running, name) for name in running.networks}
    file.write_text(texts[0])
    async with serving(site, file) as running, site.joined("pc1", running) as member:
        first = running.switch.ports[0]
        for step in (1, 3, 4, 7):  # so that each follows many others
            for number in range(len(texts)):
                number = number * step % len(texts)
                file.write_text(texts[number])
                await running.reloader.reload()
                now = {name: in_force(running, name) for name in running.networks}
                assert now == wanted[number], texts[number]
                assert (await running.reloader.reload()).changes == []
        (port,) = (each for each in running.switch.ports if each.name == "pc1")
        assert port is first  # the same session
        assert member.error is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[port.pc1]\nisolated = 'perhaps'\n", "serve.toml:2: port.pc1.isolated"),
        ("[port.pc1\n", "at line 1"),
        ("[serve]\n[oops]\n", "unknown table"),
        ("[rules]\nlist = ['deny pc1 -> pc2']\ntests = ['pc1 -> pc2 allowed']\n", "tests 1"),
        ("[port.pc1]\nmirror = 'pc1'\n", "pc1"),
        ('[port."a/b"]\nisolated = true\n', r"toml:1: port\.\W+a/b\W+no port can be"),
        ('[port."\\u0000"]\nisolated = true\n', r"toml:1: port\.\W+u0000\W+no port can be"),
        ("[network.x.prot]\n", "serve.toml:1: network.x: unknown table prot: did you mean 'port'"),
        ("[network.x]\n[network.x.port.pc1.a]\n", "toml:2: network.x.port.pc1: unknown option a"),
        ("[switch.a]\n", "serve.toml:1: switch: unknown option a"),
        (f"[port.pc1]\n{'.'.join(['a'] * 900)} = 1\n", "nested too deeply"),
        ("[network." + 200 * "y" + "]\n", r"network.y{77}\.\.\.: a name is"),
    ],
)
async def test_a_broken_file_changes_nothing_and_says_why(site, file, text, reason, caplog):
    file.write_text(BASE + "[switch]\nguard = true\n")
    async with serving(site, file) as running:
        before = in_force(running)
        file.write_text(text)
        with pytest.raises(VswitchError, match=reason):
            await running.reloader.reload()
        await running.reloader.on_signal()
        refused = [each for each in caplog.records if "reload-refused" in each.message]
        assert any(re.search(reason, each.message) for each in refused)
        assert {each.levelname for each in refused} == {"ERROR"}  # no start would come of it
        assert in_force(running) == before


@pytest.mark.parametrize(
    ("saved", "problem"),
    [
        ("# kept\n[port.pc1]\nisolated = 3\n", ":3: port.pc1.isolated = 3: .*: mend that line"),
        ("[prot.pc1]\nisolated = true\n", ":1: unknown table prot: .*mend that line"),
        ("removed = 3\n", ":1: removed: must be a list of keys, .*mend that line"),
        ("[network.x.prot]\n", ":1: network.x: unknown table prot: .*mend that line"),
    ],
)
async def test_a_start_names_the_line_of_what_was_kept_and_is_wrong(site, file, saved, problem):
    file.write_text(BASE + "[port.pc1]\nisolated = true\n")
    site.files.ensure()
    site.files.saved.write_text(saved)
    with pytest.raises(ConfigError, match=re.escape(str(site.files.saved)) + problem):
        Configuration.read(ServeConfig(config=file, state=site.files.path), {"config": file})


def test_the_line_of_one_of_a_list_is_that_in_its_own_file(site, file):
    site.files.ensure()
    good = "[[publish]]\nlisten = 'tcp://:{}'\nto = 'pc1:1'\n"
    bad = "[[{}publish]]\nlisten = 'tcp://:{}'\nto = '='\n"
    file.write_text(good.format(1) + bad.format("", 2) + good.format(3))
    saved = site.files.saved
    saved.write_text(good.format(1) + good.format(4) + bad.format("", 5) + bad.format("", 6))
    with pytest.raises(ConfigError) as caught:
        Configuration.read(ServeConfig(config=file, state=site.files.path), {"config": file})
    lines = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert lines == [f"{file}:6", f"{saved}:9", f"{saved}:12"]
    file.write_text("[network.lab]\n" + good.format(1).replace("publish", "network.lab.publish"))
    saved.write_text(bad.format("network.lab.", 2))
    with pytest.raises(ConfigError, match=re.escape(f"{saved}:3: network.lab.publish[2].to")):
        Configuration.read(ServeConfig(config=file, state=site.files.path), {"config": file})


async def test_what_cannot_be_had_is_taken_back_whole(site, file):
    file.write_text(BASE + "[port.pc1]\nisolated = true\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with serving(site, file) as running:
            before = in_force(running)
            for more in (
                f"[[publish]]\nlisten = 'tcp://127.0.0.1:{port}'\nto = '10.77.0.9:80'\n",
                f"[[foreign]]\nkind = 'tcp'\nlisten = '127.0.0.1:{port}'\n",
                f"[network.x]\n[[network.x.foreign]]\nkind = 'tcp'\nlisten = '127.0.0.1:{port}'\n",
            ):
                file.write_text(BASE + "[switch]\nguard = true\n" + more)
                with pytest.raises(VswitchError, match=str(port)):
                    await running.reloader.reload()
                assert in_force(running) == before
                assert list(running.networks) == ["default"]


async def test_a_place_may_move_from_one_network_to_another(site, file):
    first, second = free_port(), free_port()
    lab = "[network.lab]\nsubnet = '10.78.0.0/24'\n[network.lab.names]\nenabled = false\n"
    publish = f"publish]]\nlisten = 'tcp://127.0.0.1:{first}'\nto = 'pc1:80'\n"
    foreign = f"foreign]]\nkind = 'tcp'\nlisten = '127.0.0.1:{second}'\n"
    here = BASE + "[[" + publish + "[[" + foreign + lab
    there = BASE + lab + "[[network.lab." + publish + "[[network.lab." + foreign
    alone = BASE + "[[" + publish + "[[" + foreign
    file.write_text(here)
    async with serving(site, file) as running:

        def places():
            return {
                name: (len(it._publisher.rules), len(it.status.listeners))
                for name, it in running.networks.items()
            }

        assert places() == {"default": (1, 1), "lab": (0, 0)}
        with socket.create_server(("127.0.0.1", 0)) as taken:
            wrong = f"listen = 'tcp://127.0.0.1:{taken.getsockname()[1]}'\nto = 'pc1:1'\n"
            for text, place, found in (
                (there, "[[network.lab.publish]]\n", {"default": (0, 0), "lab": (1, 1)}),
                (here, "[[network.lab.publish]]\n", {"default": (1, 1), "lab": (0, 0)}),
                (there, "[[publish]]\n", {"default": (0, 0), "lab": (1, 1)}),
                (alone, "[[publish]]\n", {"default": (1, 1)}),  # of one that ends
            ):
                before = places()
                file.write_text(text + place + wrong)
                with pytest.raises(VswitchError, match="in use"):
                    await running.reloader.reload()
                assert places() == before
                file.write_text(text)
                await running.reloader.reload()
                assert places() == found


async def serve_from(nursery, site, file, **given):
    """As the command begins it."""
    said = {"config": file, "state": site.files.path, **given}
    config = Configuration.of_file(ServeConfig(**said)).config
    run = lambda task_status: serve(config, given=said, task_status=task_status)  # noqa: E731
    return await nursery.start(run)


LISTEN = ServeConfig(listen="127.0.0.1:0").listen


async def test_options_that_need_a_restart_are_refused_by_name_and_others_hold(site, file):
    async with trio.open_nursery() as nursery:
        running = await serve_from(nursery, site, file, listen=LISTEN)
        for key in ("subnet = '10.9.0.0/24'", "mtu = 1400", "silent = true", "dev = 'x0'"):
            name = key.split(" ")[0]
            assert name in RESTART
            file.write_text(f"[serve]\n{key}\n[port.pc1]\nisolated = true\n" + BASE)
            with pytest.raises(ConfigError, match=f"serve.{name}: cannot change while"):
                await running.reloader.reload()
            said = await running.reloader.compare()
            assert f"serve.{name}" in said.problem
            assert running.managed.settings.ports == {}
        file.write_text("[serve]\nmax_members = 3\npublic = 'sw.example'\nlisten = ':1'\n" + BASE)
        said = await running.reloader.reload()  # the flag says where it listens, whatever that is
        assert len(said.changes) == 3
        assert running.registry.max_members == 3
        status = await site.status()
        assert status.public.startswith("sw.example")
        nursery.cancel_scope.cancel()


def test_a_table_of_the_api_alone_needs_a_restart_where_https_would_have_it(tmp_path, file):
    def made(text):
        file.write_text(text)
        return Configuration.read(ServeConfig(config=file, state=tmp_path / "s"), {"config": file})

    https = "[https]\nlisten = '127.0.0.1:1'\n"
    texts = ["", "[api]\n", "[api]\nhttps = true\n", "[api]\nhttps = false\n"]
    has = [False, True, True, False]
    found = [made(https + text) for text in texts]
    assert [each.api_over_https for each in found] == has
    for before, after in itertools.product(found, repeat=2):
        if before.api_over_https == after.api_over_https:
            assert "api" not in need_restart(before, after)
        else:
            with pytest.raises(ConfigError, match=r"api: cannot change while the switch runs"):
                check_restart(before, after)
    assert differences(found[0].flat, found[1].flat) == [Change(("api",), None, {})]
    check_restart(made(""), made("[api]\n"))  # no listener would have one


async def test_a_network_that_goes_says_so_to_its_members_and_may_come_again(site, file):
    lab = "[network.lab]\n[network.lab.names]\nenabled = false\n"
    async with serving(site, file) as running, site.joined("pc1", running):
        first = running.switch.ports[0]
        for turn in range(2):
            file.write_text(BASE + lab)
            said = await running.reloader.reload()
            assert [each.key for each in said.changes] == [
                "network.lab",
                "network.lab.names.enabled",
            ]
            invite = site.invite("pc2", running.listen, network="lab") if turn == 0 else None
            async with site.joined("pc2", None, host="lab", invite=invite, once=True) as member:
                assert (await site.status("lab")).networks == ["default", "lab"]
                file.write_text(BASE)
                await running.reloader.reload()
                assert "the network lab is served no more" in str(await member.wait_ended())
            assert (await site.status()).networks == ["default"]
        assert running.switch.ports == (first,)


async def test_live_changes_stay_until_they_are_reverted_or_kept(site, file):
    async with serving(site, file) as running:
        reloader, managed = running.reloader, running.managed
        managed.change_port("pc1", {"isolated": "yes"})
        await reloader.note("default", {("port", "pc1", "isolated"): "yes"}, save=False)
        assert [each.key for each in (await reloader.reload()).unsaved] == ["port.pc1.isolated"]
        assert managed.settings.of_port("pc1").isolated
        await reloader.reload(revert=True)
        assert not managed.settings.of_port("pc1").isolated
        managed.change_port("pc1", {"isolated": "yes"})
        await reloader.note("default", {("port", "pc1", "isolated"): "yes"}, save=True)
        assert (await reloader.reload()).unsaved == []
        path = StateDir(site.files.path).saved
        assert path.stat().st_mode & 0o777 == 0o600
        assert '[port.pc1]\nisolated = "yes"' in path.read_text()
    async with serving(site, file) as running:
        assert running.managed.settings.of_port("pc1").isolated
        state = {tuple(each.key): each.source for each in running.reloader.state().settings}
        assert state == {("port", "pc1", "isolated"): "saved", ("names", "enabled"): "file"}
        path.write_text("removed = ['a b']\n")
        with pytest.raises(ConfigError, match=r"saved.toml:1: removed: 'a b' is no key"):
            await running.reloader.reload()
        path.write_text("[port.pc1]\nisolated = 3\n")
        with pytest.raises(ConfigError, match=r"saved.toml:2: port.pc1.isolated = 3"):
            await running.reloader.reload()
        assert running.managed.settings.of_port("pc1").isolated


async def test_the_whole_configuration_is_replaced_and_kept_or_nothing_is(site, file, caplog):
    caplog.set_level(logging.INFO)
    file.write_text(BASE + "[port.pc1]\nisolated = true\nloop_guard = false\n")
    async with serving(site, file) as running:
        reloader = running.reloader
        whole = json.dumps(reloader.whole())
        assert (await reloader.replace(json.loads(whole))).changes == []
        assert json.dumps(reloader.whole()) == whole
        wanted = {
            "names": {"enabled": False},
            "port": {"pc1": {"isolated": True}},
            "switch": {"guard": True},
        }
        said = await reloader.replace(wanted)
        assert {each.key for each in said.changes} == {"port.pc1.loop_guard", "switch.guard"}
        assert "reloaded changes=port.pc1.loop_guard,switch.guard count=2" in caplog.text
        for broken in ({**wanted, "oops": 1}, {**wanted, "switch": {"guard": 7}}, {"join": {}}):
            with pytest.raises(ConfigError):
                await reloader.replace(broken)
            assert flatten(reloader.whole()) == flatten(wanted)
        refused = [each for each in caplog.records if "reload-refused" in each.message]
        assert {each.levelname for each in refused} == {"WARNING"}  # its sender has been told
        assert running.managed.settings.switch.guard
    async with serving(site, file) as running:
        assert flatten(running.reloader.whole()) == flatten(wanted)
