"""A sandbox as whoever runs the tests: what it passes out, what it hides, and why it is refused."""

import errno
import os
import resource
import socket
import subprocess
from contextlib import ExitStack, suppress

import pytest
import trio

from tests.vswitch.namespaces.inside import interfaces
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError
from vswitch.lab import lab as lab_module
from vswitch.namespaces.answers import kill_all_in
from vswitch.namespaces.sandbox import Settings, forbidden, open_sandbox, until_it_ends


@pytest.fixture
async def sandbox():
    if not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")
    async with open_sandbox(Settings(resolvers=["10.0.0.53"])) as sandbox:
        yield sandbox


@pytest.mark.netns
async def test_sockets_of_the_namespace_speak_to_each_other_and_to_nobody_else(sandbox):
    listening = await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening, await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        await listening.bind(("127.0.0.1", 0))
        listening.listen()
        await client.connect(listening.getsockname())
        served, _ = await listening.accept()
        with served:
            await served.send(b"word")
            assert await client.recv(10) == b"word"
        with trio.socket.socket() as outside, pytest.raises(ConnectionRefusedError):
            await outside.connect(listening.getsockname())


@pytest.mark.netns
async def test_sockets_that_are_wanted_at_once_come_in_few_calls(sandbox, monkeypatch):
    calls, call = [], type(sandbox).call

    async def counted(self, function, *args):
        calls.append(function)
        return await call(self, function, *args)

    monkeypatch.setattr(type(sandbox), "call", counted)
    made = []

    async def make():
        made.append(await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM))

    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(make)
        for sock in made:
            stack.enter_context(sock)
        assert len({sock.fileno() for sock in made}) == 100
    assert len(calls) <= 3  # of 64 at most


@pytest.mark.netns
async def test_refused_socket_is_the_callers_error(sandbox):
    with pytest.raises(OSError, match="not supported"):
        await sandbox.socket(socket.AF_INET, socket.SOCK_SEQPACKET)
    assert await sandbox.call(os.getpid) > 0


@pytest.mark.netns
async def test_tap_is_inside_and_its_frames_come_out(sandbox):
    config = TapConfig(name="vsw0", address="10.1.2.1/24", mtu=1300)
    async with sandbox.open_interface(config) as interface:
        assert interface.mtu == 1300
        assert (await interface.facts()).apart
        assert "vsw0" in await sandbox.call(interfaces)
        assert "vsw0" not in interfaces()
        with await sandbox.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.sendto(b"", ("10.1.2.9", 9))
        asked = bytes.fromhex("0806")
        with trio.fail_after(60):
            while not any(asked in record[16:20] for record in await read(interface)):
                pass
        await interface.set_address("10.1.3.1/24")
        assert (await interface.lacking()) == {}
    assert "vsw0" not in await sandbox.call(interfaces)


async def read(interface):
    await interface.wait_readable()
    try:
        return interface.read_nowait(64)
    except trio.WouldBlock:
        return []


@pytest.mark.netns
async def test_programs_have_files_of_their_own(sandbox):
    await sandbox.set_hosts({"pc1": "10.77.0.2"})
    files = ["cat", "/etc/resolv.conf", "/etc/hosts"]
    child = sandbox.start(files, stdout=subprocess.PIPE, text=True)
    assert await until_it_ends(child) == 0
    with child.stdout as output:
        assert output.read() == (
            "nameserver 10.0.0.53\n127.0.0.1 localhost\n::1 localhost\n10.77.0.2 pc1\n"
        )


@pytest.mark.netns
async def test_want_of_descriptors_costs_one_socket_and_not_the_sandbox(sandbox):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with ExitStack() as taken:
            with suppress(OSError):
                while True:
                    taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            for _ in range(2):
                with pytest.raises(OSError, match="Too many open files"):
                    await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM)
        (await sandbox.socket(socket.AF_INET, socket.SOCK_STREAM)).close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.netns
@pytest.mark.parametrize("name", ["os.pidfd_open", "vswitch.namespaces.holder.subprocess.Popen"])
async def test_want_of_a_descriptor_at_the_start_leaves_nothing(monkeypatch, tmp_path, name):
    if not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")

    def none_left(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr(name, none_left)
        with pytest.raises(OSError, match="Too many open files"):
            async with open_sandbox():
                pass
    assert os.listdir("/proc/self/fd") == before
    assert os.listdir(tmp_path) == []


@pytest.mark.netns
async def test_any_temporary_directory_will_do_or_is_told(monkeypatch, tmp_path):
    if not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a=b"))
    with pytest.raises(VswitchError, match="see TMPDIR"):
        async with open_sandbox():
            pass
    (tmp_path / "a=b").mkdir()
    async with open_sandbox(Settings(resolvers=["10.0.0.53"])) as sandbox:
        files = ["grep", "-q", "10.0.0.53", "/etc/resolv.conf"]
        assert await until_it_ends(sandbox.start(files)) == 0


async def lose_the_holder(children):
    async with open_sandbox() as sandbox:
        children.append(sandbox.start(["sleep", "300"]))
        os.kill(await sandbox.call(os.getpid), 9)
        await trio.sleep_forever()


@pytest.mark.netns
async def test_killed_holder_is_told():
    if not lab_module._can(rootless=True):
        pytest.skip("missing: user namespaces")
    children = []
    with pytest.raises(VswitchError, match="somebody killed it"):
        await lose_the_holder(children)
    assert children[0].wait(60) != 0


@pytest.mark.netns
async def test_all_that_is_inside_is_killed_and_nobody_else(sandbox):
    script = ["sh", "-c", "echo inside; exec sleep 300"]
    # Also in namespaces of their own, which a user can make in there.
    places = [], ["unshare", "-n"], ["unshare", "-Urn"]
    children = [sandbox.start([*place, *script], stdout=subprocess.PIPE) for place in places]
    for child in children:
        with child.stdout as output:
            assert output.readline() == b"inside\n"
    holder = await sandbox.call(os.getpid)
    await sandbox.call(kill_all_in, "/proc/self/ns/user")
    assert [child.wait(60) for child in children] == [-9] * 3
    assert await sandbox.call(os.getpid) == holder


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("kernel.unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user.max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (None, None, "a container needs them from its engine"),
    ],
)
def test_what_forbids_namespaces_is_named(setting, value, said):
    allowed = {
        "kernel.unprivileged_userns_clone": "1",
        "user.max_user_namespaces": "96365",
        "kernel.apparmor_restrict_unprivileged_userns": "0",
    }
    line = forbidden("unshare: not permitted", ({**allowed, setting: value}).get)
    assert line.startswith("unshare: not permitted: ")
    assert said in line
    assert "\n" not in line
