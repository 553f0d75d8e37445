"""The examples work: the whole of the one that needs no root, the answering part of the other.

And they, and the example of the README, are well typed against what a wheel installs.
"""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from vswitch import open_switch
from vswitch.testing import arp_reply, arp_request, ethernet, icmp_echo, vlan_tagged

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BOT, BOT_IP = bytes.fromhex("02000a630002"), "10.99.0.2"
HOST, HOST_IP = bytes.fromhex("020000000a01"), "10.99.0.1"


async def run(name):
    return await trio.run_process(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


async def test_two_members_end_well():
    with trio.fail_after(60):
        done = await run("two_members.py")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == [
        "alice: 10.77.0.2/24",
        "bob: 10.77.0.3/24",
    ]
    bob = lines[1].split(", ")[1]
    assert lines[2] == f"alice asked all 'who is there?'; {bob} sent it back"
    assert lines[3] == "1000 frames there and back, each once and in order"


@pytest.mark.parametrize("name", ["python_port.py", "two_members.py"])
def test_examples_say_how_to_run_them(name):
    docstring = (EXAMPLES / name).read_text().split('"""')[1]
    assert f".venv/bin/python examples/{name}" in docstring


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The Python of an environment that has the wheel, and of this one's packages the others."""
    directory = tmp_path_factory.mktemp("installed")
    isolated = importlib.util.find_spec("hatchling") is None  # then pip has to fetch it
    options = ["-q", "--no-deps", *([] if isolated else ["--no-build-isolation"])]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", *options, "-w", directory, ROOT], check=True)
    venv.create(directory / "env", with_pip=False)
    python = directory / "env/bin/python"
    (wheel,) = directory.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    # A path in a .pth file is a path and no more: the link to this checkout in it is not followed.
    packages = sysconfig.get_path("purelib", vars={"base": str(directory / "env")})
    (Path(packages) / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_examples_are_well_typed_against_the_wheel(installed, tmp_path):
    for example in EXAMPLES.glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text())
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "readme.py").write_text(block)
    (tmp_path / "wrong.py").write_text("from vswitch import open_switch\nopen_switch(mtu='big')\n")
    where = subprocess.run(
        [installed, "-c", "import vswitch; print(vswitch.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(installed.parents[1]) in where.stdout
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout + done.stderr
    assert lines[0].startswith('wrong.py:2: error: Argument "mtu" to "open_switch"')
    assert lines[1].startswith("Found 1 error in 1 file (checked 4 source files)")


@pytest.fixture
def python_port():
    spec = importlib.util.spec_from_file_location("python_port", EXAMPLES / "python_port.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def wire(python_port):
    """A port beside that of the bot, which answers."""
    async with (
        open_switch() as switch,
        switch.open_port("host") as host,
        switch.open_port("bot") as bot,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(python_port.answer, bot, BOT, IPv4Address(BOT_IP))
        yield host
        nursery.cancel_scope.cancel()


async def ask(wire, frame):
    with trio.fail_after(10):
        await wire.send(frame)
        return await wire.receive_frame()


async def test_port_answers_arp(wire):
    answer = await ask(wire, arp_request(HOST, HOST_IP, BOT_IP))
    assert answer == arp_reply(BOT, BOT_IP, HOST, HOST_IP)


@pytest.mark.parametrize("data", [b"", b"odd", bytes(range(256)) * 5])
@pytest.mark.parametrize("sequence", [1, 0xFFFF])
async def test_port_answers_ping(wire, data, sequence):
    request = icmp_echo(HOST, HOST_IP, BOT, BOT_IP, sequence=sequence, data=data)
    expected = icmp_echo(BOT, BOT_IP, HOST, HOST_IP, sequence=sequence, data=data, reply=True)
    assert await ask(wire, request) == expected


PING = icmp_echo(HOST, HOST_IP, BOT, BOT_IP, data=b"x")
NOT_FOR_IT = {
    "arp for another": arp_request(HOST, HOST_IP, "10.99.0.3"),
    "arp reply": arp_reply(HOST, HOST_IP, BOT, BOT_IP),
    "cut arp": arp_request(HOST, HOST_IP, BOT_IP)[:40],
    "ping of another": icmp_echo(HOST, HOST_IP, BOT, "10.99.0.3"),
    "another station's ping": icmp_echo(HOST, HOST_IP, b"\x02" * 6, BOT_IP),
    "echo reply": icmp_echo(HOST, HOST_IP, BOT, BOT_IP, reply=True),
    "fragment": PING[:20] + b"\x20\x00" + PING[22:],
    "cut ping": PING[:40],
    "no header": PING[:30],
    "udp": PING[:23] + b"\x11" + PING[24:],
    "tagged": vlan_tagged(PING, 5),
    "another protocol": ethernet(BOT, HOST, 0x88B5, PING[14:]),
}


@pytest.mark.parametrize("frame", NOT_FOR_IT.values(), ids=NOT_FOR_IT.keys())
async def test_port_keeps_silent_and_goes_on(wire, frame):
    await wire.send(frame)
    answer = await ask(wire, PING)  # answers keep their order: nothing came before this one
    assert answer == icmp_echo(BOT, BOT_IP, HOST, HOST_IP, data=b"x", reply=True)
