"""What keeps a switch from starting, and what is left when serve or join is cancelled, whenever."""

import os

import pytest
import trio
import trio.testing

from vswitch.addresses import mac_from_key
from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError, ExitCode, VswitchError
from vswitch.joining.member import join
from vswitch.serving.server import _swallowed, serve
from vswitch.testing import FakeInterface, ethernet


async def failing(site, **options):
    with trio.fail_after(20), pytest.raises(VswitchError) as caught:
        await serve(site.serve_config(**options))
    return caught.value


def descriptors():
    """What this process holds open, apart from the listing itself."""
    held = []
    for name in os.listdir("/proc/self/fd"):
        try:
            held.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            continue
    return sorted(held)


async def test_a_port_in_use_is_refused(site, tmp_path):
    async with site.serving() as running:
        other = type(site)(tmp_path / "other")
        error = await failing(other, listen=running.listen)
        assert type(error) is VswitchError
        assert error.exit_code == ExitCode.FAILED
        assert f"UDP port {running.listen} is in use" in str(error)
        assert "--listen" in str(error)


async def test_members_come_to_each_place_where_the_switch_listens(site):
    async with site.serving(listen=["127.0.0.1:0", "127.0.0.1:0"], public="127.0.0.1") as running:
        first, second = running.listens
        assert first.port != second.port
        async with (
            site.joined("pc1", running),
            site.joined("pc2", None, invite=site.invite("pc2", second)),
        ):
            status = await site.status()
            assert {port.name for port in status.ports} >= {"pc1", "pc2"}
            assert status.listens == [first.text(), second.text()]
            assert status.listen == status.public == first.text()


async def test_of_several_places_all_are_listened_at_or_none(site, tmp_path):
    async with site.serving() as running:
        other = type(site)(tmp_path / "other")
        before = descriptors()
        error = await failing(other, listen=["127.0.0.1:0", running.listen.text()])
        assert f"UDP port {running.listen} is in use" in str(error)
        assert descriptors() == before


async def test_an_address_of_another_host_is_refused(site):
    error = await failing(site, listen="192.0.2.77:7450")
    assert error.exit_code == ExitCode.FAILED
    assert "cannot listen on 192.0.2.77:7450" in str(error)


async def test_a_second_switch_on_one_state_directory_is_refused(site):
    async with site.serving() as running:
        before = running.registry.served()
        error = await failing(site, subnet="10.9.0.0/24", public="elsewhere.example.org")
        assert error.exit_code == ExitCode.FAILED
        assert "another vswitch is running" in str(error)
        assert "--state" in str(error)
        # The one that runs is not disturbed, and invites still say where it is.
        assert running.registry.served() == before
        async with site.joined("pc1", running) as member:
            assert member.welcome.address == "10.77.0.2/24"
            assert (await site.status()).listen == running.listen.text()


async def test_a_second_join_of_one_member_is_refused(site):
    async with site.serving() as running, site.joined("pc1", running) as member:
        async with site.starting("pc1") as second:
            error = await second.wait_ended()
        assert type(error) is VswitchError
        assert "another vswitch is running" in str(error)
        # Before it has touched the host, where it would undo what the first has done.
        assert not second.interface.opened
        assert (await member.status()).state == "up"


@pytest.mark.parametrize(
    ("public", "subnet", "collides"),
    [
        ("10.9.0.50", "10.9.0.0/24", True),
        ("10.9.0.50", "10.0.0.0/8", True),
        ("10.9.1.50", "10.9.0.0/24", False),
        ("switch.example", "10.9.0.0/24", False),
        ("[fd00::1]", "10.9.0.0/24", False),
    ],
)
def test_a_subnet_that_holds_the_switch_is_named(public, subnet, collides, tmp_path):
    config = ServeConfig(public=public, subnet=subnet, state=tmp_path)
    assert (_swallowed(config, config.subnet) is not None) == collides


def test_a_subnet_that_holds_where_the_switch_listens_is_named(tmp_path):
    config = ServeConfig(listen="10.9.0.50:0", subnet="10.9.0.0/24", state=tmp_path)
    assert _swallowed(config, config.subnet) == "10.9.0.50"


async def test_a_subnet_that_holds_the_switch_is_in_the_log(site, caplog):
    async with site.serving(public="10.9.0.50", subnet="10.9.0.0/24"):
        pass
    assert "subnet-collides" in caplog.text
    assert "it holds the switch's own address, 10.9.0.50" in caplog.text


async def test_a_key_that_others_can_read_is_refused(site):
    async with site.serving():
        pass
    site.files.server_key.chmod(0o644)
    error = await failing(site)
    assert isinstance(error, ConfigError)
    assert error.exit_code == ExitCode.USAGE
    assert str(site.files.server_key) in str(error)


async def test_a_registry_that_is_none_is_refused(site):
    site.files.ensure()
    site.files.registry.write_bytes(b"not a database, but long enough to look like one" * 100)
    site.files.registry.chmod(0o600)
    error = await failing(site)
    assert "is damaged or no registry" in str(error)


async def test_a_disk_that_is_full_at_the_start_is_refused(site, monkeypatch):
    def full(*_):
        raise VswitchError("the disk is full")

    monkeypatch.setattr("vswitch.registry.registry.Registry.record_served", full)
    before = descriptors()
    assert str(await failing(site)) == "the disk is full"
    assert descriptors() == before
    assert not site.files.control_socket.exists()


async def test_a_switch_that_has_stopped_leaves_its_port_and_its_state(site):
    async with site.serving() as running, site.joined("pc1", running):
        listen = running.listen
    assert sorted(path.name for path in site.files.path.iterdir()) == [
        "members",
        "registry.sqlite",
        "server.key",
    ]
    async with site.serving(listen=listen) as running, site.joined("pc1", None) as member:
        assert member.welcome.address == "10.77.0.2/24"


class CutShort(trio.abc.Instrument):
    """Cancels a scope before its tasks make their n-th step."""

    def __init__(self, scope, steps):
        self.scope = scope
        self.steps = steps
        self.test = trio.lowlevel.current_task()

    def before_task_step(self, task):
        if task is self.test or self.scope.cancel_called:
            return
        self.steps -= 1
        if self.steps < 0:
            self.scope.cancel()


async def run_cut_short(steps, service):
    """Run `service` for so many task steps; whether it was cut before it had started."""
    started = False
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            instrument = CutShort(nursery.cancel_scope, steps)
            trio.lowlevel.add_instrument(instrument)
            try:
                await nursery.start(service)
                started = True
                await trio.testing.wait_all_tasks_blocked()
            finally:
                trio.lowlevel.remove_instrument(instrument)
            nursery.cancel_scope.cancel()
    return not started


async def test_serve_leaves_nothing_behind_whenever_it_is_cancelled(site):
    async with site.serving():
        pass  # with key and registry made, each round is the same
    before, tasks = descriptors(), trio.lowlevel.current_statistics().tasks_living
    steps = 0
    while await run_cut_short(steps, lambda **kw: serve(site.serve_config(), **kw)):
        assert descriptors() == before
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert not site.files.control_socket.exists()
        steps += 1
    assert steps > 10
    assert descriptors() == before
    assert not site.files.control_socket.exists()


async def test_join_leaves_nothing_behind_whenever_it_is_cancelled(site, until):
    async with site.serving() as running:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with site.joined("pc1", running):
            pass
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
        config = site.join_config("pc1")
        socket = config.files.join_socket("pc1")
        before = descriptors()
        steps, cut = 0, True
        while cut:
            interface = FakeInterface()

            async def service(*, task_status, interface=interface):
                await join(config, open_interface=interface.open, task_status=task_status)

            cut = await run_cut_short(steps, service)
            assert interface.closed or not interface.opened
            assert not socket.exists()
            await until(lambda: not running.switch.ports)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
            assert descriptors() == before
            steps += 3
        assert steps > 20


async def test_the_mac_of_a_member_that_has_not_come_yet_is_kept_from_the_start(site):
    key = bytes(32)
    async with site.serving():
        with site.registry() as registry:
            registry.enrol_local(key, "pc1", 0.0)
    async with site.serving() as running:
        running.managed.change_switch({"guard": "on"})
        async with (
            running.switch.open_port("bot") as bot,
            running.switch.open_port("other") as other,
        ):
            for source in (mac_from_key(key), b"\x02" * 6):
                await bot.send(ethernet(b"\xff" * 6, source, 0x88B5, b"mine"))
            with trio.fail_after(20):
                (frame,) = await other.receive()
            assert frame[6:12] == b"\x02" * 6
            (port,) = [port for port in running.switch.ports if port.name == "bot"]
            assert port.counters.drops == {"source_guard": 1}
