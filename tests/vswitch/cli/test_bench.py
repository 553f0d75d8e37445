"""`vswitch bench` and what it is made of, over loopback."""

import json
import re
import socket
import subprocess
import sys

import pytest
import trio
import trio.testing

from vswitch import bench as linkbench
from vswitch.bench import RoundTrips
from vswitch.cli import main
from vswitch.errors import ExitCode, NotFound, NotReachable, VswitchError


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(linkbench, "IDLE_SECONDS", 0.05)


def port_of(listener):
    return listener.getsockname()[1]


@pytest.fixture
def listener():
    try:
        listener = linkbench.open_listener("lo", 0)
    except VswitchError as error:
        pytest.skip(f"missing: binding to an interface ({error})")
    yield listener
    listener.close()


async def test_both_ends_agree_on_what_a_link_does(listener, nursery):
    nursery.start_soon(linkbench.serve, listener)
    figures = await linkbench.measure("127.0.0.1", port_of(listener), seconds=0.1)
    assert figures.up_mbit > 10
    assert figures.down_mbit > 10
    for trips in (figures.idle, figures.up, figures.down):
        assert 0 < trips.minimum <= trips.p50 <= trips.p99


async def test_the_server_counts_every_byte(listener, nursery):
    nursery.start_soon(linkbench.serve, listener)
    async with await trio.open_tcp_stream("127.0.0.1", port_of(listener)) as stream:
        await stream.send_all(linkbench.TAKE + bytes(123_456))
        await stream.send_eof()
        with trio.fail_after(10):
            answer = b""
            while data := await stream.receive_some(100):
                answer += data
    assert int.from_bytes(answer, "big") == 123_456


async def test_what_is_no_wish_ends_that_client_alone(listener, nursery):
    nursery.start_soon(linkbench.serve, listener)
    async with await trio.open_tcp_stream("127.0.0.1", port_of(listener)) as stream:
        await stream.send_all(b"?")
        with trio.fail_after(10):
            assert await stream.receive_some(1) == b""
    await echoes(port_of(listener))


async def test_clients_beyond_the_limit_are_sent_away_until_one_leaves(listener, nursery):
    nursery.start_soon(linkbench.serve, listener)
    port = port_of(listener)
    streams = [await echoes(port, keep=True) for _ in range(linkbench.CLIENTS)]
    late = await trio.open_tcp_stream("127.0.0.1", port)
    with trio.fail_after(10):
        try:
            assert await late.receive_some(1) == b""
        except trio.BrokenResourceError:
            pass  # reset, which says the same
    for stream in streams:
        await stream.aclose()
    await late.aclose()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await echoes(port)


async def echoes(port, *, keep=False):
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    with trio.fail_after(10):
        await stream.send_all(linkbench.ECHO + b"ping")
        assert await stream.receive_some(4) == b"ping"
    if keep:
        return stream
    await stream.aclose()
    return None


async def test_nobody_there_is_said(nursery):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(NotReachable, match="bench --serve"):
            await linkbench.measure("127.0.0.1", closed.getsockname()[1])


async def test_a_server_that_leaves_in_the_middle_is_said(nursery):
    async def leave(stream):
        await stream.receive_some(100)
        await stream.aclose()

    listeners = await nursery.start(trio.serve_tcp, leave, 0)
    with pytest.raises(NotReachable, match="ended the connection"):
        await linkbench.measure("127.0.0.1", port_of(listeners[0].socket))


async def test_a_silent_link_ends_in_time(nursery, monkeypatch):
    monkeypatch.setattr(linkbench, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(linkbench, "SILENCE", 0.05)

    async def hold(stream):
        await trio.sleep_forever()

    listeners = await nursery.start(trio.serve_tcp, hold, 0)
    with pytest.raises(VswitchError, match="silent"):
        await linkbench.measure("127.0.0.1", port_of(listeners[0].socket), seconds=0.01)


def test_an_interface_that_is_not_there_is_named():
    with pytest.raises(NotFound, match="no interface vsw-none"):
        linkbench.open_listener("vsw-none", 0)


def test_a_port_that_is_taken_is_named(listener):
    with pytest.raises(VswitchError, match="cannot listen on lo"):
        linkbench.open_listener("lo", port_of(listener))


def test_percentiles_are_of_the_sorted_times():
    trips = RoundTrips.of([0.003, 0.001, 0.002] + [0.002] * 97)
    assert (trips.minimum, trips.p50, trips.p99) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--serve", "10.77.0.3"],
        ["10.77.0.3", "--port", "0"],
        ["10.77.0.3", "--seconds", "nan"],
        ["10.77.0.3", "--seconds", "61"],
        ["--serve", "--dev", "no/such"],
    ],
)
def test_wrong_use_is_refused(arguments, capsys):
    assert main(["bench", *arguments]) == ExitCode.USAGE
    assert capsys.readouterr().out == ""


def test_the_command_serves_and_measures(listener, capsys):
    port = port_of(listener)
    listener.close()
    serving = [sys.executable, "-m", "vswitch", "bench", "--serve", "--dev", "lo"]
    with subprocess.Popen([*serving, "--port", str(port)], stderr=subprocess.PIPE, text=True) as it:
        try:
            assert f"TCP port {port}" in it.stderr.readline()
            arguments = ["bench", "127.0.0.1", "--port", str(port), "--seconds", "0.1"]
            assert main(arguments) == ExitCode.OK
            assert re.search(r"^to 127.* Mbit/s( +[0-9.]+){3}$", capsys.readouterr().out, re.M)
            assert main([*arguments, "--json"]) == ExitCode.OK
            assert json.loads(capsys.readouterr().out)["idle"]["p50"] > 0
        finally:
            it.terminate()
            it.wait(10)
    assert it.returncode == ExitCode.OK
