"""The control socket: answers, bounds, who may ask, and what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket

import attrs
import pytest
import trio

from tests.vswitch.control import verbs_api
from vswitch.api import socket as control
from vswitch.api.gate import Gate
from vswitch.api.http import Api
from vswitch.api.roles import Role
from vswitch.api.socket import STREAMS, serve_control
from vswitch.api.table import Route, Subject, Table
from vswitch.api.tokens import TokenStore
from vswitch.errors import (
    ConfigError,
    NotFound,
    NotReachable,
    NotRunning,
    RefusedError,
    VswitchError,
)
from vswitch.management.client import VERBS, _Verb, open_stream, request
from vswitch.management.stream import Stream


async def echo(args):
    return {"echo": args}


async def missing(_args):
    raise NotFound("no such member")


async def broken(_args):
    raise RuntimeError("secret detail")


running = []


async def pour(args):
    async def run(send, ended):
        running.append(1)
        try:
            await send(b"first ")
            if args.get("fails"):
                raise RuntimeError("secret detail")
            await ended.wait()
            await send(b"last")
        finally:
            running.pop()

    return Stream(run)


PLAIN = ("echo", "missing", "broken", "slow", "pour")
HANDLERS = {"echo": echo, "missing": missing, "broken": broken, "pour": pour}


@pytest.fixture(autouse=True)
def verbs(monkeypatch):
    for name in PLAIN:
        monkeypatch.setitem(VERBS, name, _Verb("POST", f"/v1/{name}"))


def api(handlers, streams=STREAMS):
    return verbs_api(handlers, streams=streams)


async def ask(path, verb, **args):
    return await trio.to_thread.run_sync(lambda: request(path, verb, **args))


@contextlib.asynccontextmanager
async def serving(path):
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, api(HANDLERS))
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


async def raw(path, data):
    """Send bytes and read until the other side closes."""
    async with await trio.open_unix_socket(path) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            await stream.send_eof()
        answer = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async for piece in stream:
                answer += piece
        return answer


def asking(verb, args=None):
    said = json.dumps(args or {})
    head = f"POST /v1/{verb} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(said)}\r\n\r\n"
    return (head + said).encode()


async def test_a_request_is_answered(path):
    async with serving(path):
        assert await ask(path, "echo", name="pc1", n=1) == {"echo": {"name": "pc1", "n": 1}}


async def test_errors_keep_their_class(path):
    async with serving(path):
        with pytest.raises(NotFound, match="no such member"):
            await ask(path, "missing")


async def test_a_handler_that_fails_fails_its_request_only(path, caplog):
    async with serving(path):
        with pytest.raises(VswitchError, match="internal error") as caught:
            await ask(path, "broken")
        _, _, reference = str(caught.value).rpartition("reference=")
        assert "secret detail" not in str(caught.value)
        assert await ask(path, "echo") == {"echo": {}}
    assert f"api-failed path=/v1/broken reference={reference}" in caplog.text


async def test_several_requests_on_one_connection_in_any_pieces(path):
    async with serving(path):
        one = asking("echo", {"n": 1})
        answers = await raw(path, one + one)
        assert answers.count(b'{"echo": {"n": 1}}') == 2
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(one[:20])
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(one[20:])
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\n\n\n", b""),
        (b'{"verb": "status", "args": {}}\n\r\n\r\n', b" 400 "),
        (b"\xff\xfe\r\n\r\n", b" 400 "),
        (b"GET /v1/nothing HTTP/1.0\r\n\r\n", b" 404 "),
        (b"GET /v1/echo HTTP/1.0\r\n\r\n", b" 405 "),
        (b"POST /v1/echo HTTP/1.0\r\nContent-Length: 1\r\n\r\n[", b" 400 "),
        (b"POST /v1/echo HTTP/1.0\r\nContent-Length: 2\r\n\r\n[]", b" 400 "),
        (b"POST /v1/echo HTTP/1.0\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000, b" 400 "),
    ],
)
async def test_nonsense_is_refused_and_the_socket_lives_on(path, data, status):
    async with serving(path):
        answer = await raw(path, data)
        assert status in answer.split(b"\r\n")[0]
        if b"/v1/" in data:
            assert json.loads(answer.split(b"\r\n\r\n")[1])["code"] in (2, 5)
        assert await ask(path, "echo") == {"echo": {}}


async def test_an_unfinished_request_gets_no_answer(path):
    async with serving(path):
        assert b" 200 " not in await raw(path, asking("echo")[:-1])


async def test_an_idle_client_is_dropped(path, autojump_clock):
    async with serving(path):
        async with await trio.open_unix_socket(path) as stream:
            with trio.fail_after(1.5):
                assert await stream.receive_some() == b""


async def test_there_is_always_a_place_for_one_more_question(path):
    """However many connections hang; the one that has hung for longest goes."""
    async with serving(path), contextlib.AsyncExitStack() as stack:
        hanging = [
            await stack.enter_async_context(await trio.open_unix_socket(path)) for _ in range(40)
        ]
        for stream in hanging[32:]:
            await stream.send_all(b"POST /v1/ec")
        assert await ask(path, "echo") == {"echo": {}}
        assert await hanging[0].receive_some() == b""


async def test_where_all_places_are_at_work_the_next_is_told_so(path, monkeypatch):
    few = attrs.evolve(control._LIMITS, connections=2)
    monkeypatch.setattr(control, "_LIMITS", few)
    at_work, done = [], trio.Event()

    async def slow(_args):
        at_work.append(1)
        await done.wait()
        return {}

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, api({"slow": slow}))
        async with trio.open_nursery() as asking:
            asking.start_soon(ask, path, "slow")
            asking.start_soon(ask, path, "slow")
            while len(at_work) < 2:  # noqa: ASYNC110 (threads are involved)
                await trio.sleep(0.002)
            with pytest.raises(NotReachable, match="busy"):
                await ask(path, "slow")
            done.set()
        assert await ask(path, "slow") == {}
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_told_from_nobody_who_answers(path):
    with pytest.raises(NotRunning):
        await ask(path, "echo")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(os.fspath(path))
        with pytest.raises(NotRunning):
            await ask(path, "echo")
        mute.listen()
        with pytest.raises(NotReachable) as caught:
            await ask(path, "echo", timeout=0.01)
    assert not isinstance(caught.value, NotRunning)


async def test_where_the_queue_of_connections_is_full_the_client_waits_for_a_place(path):
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(os.fspath(path))
        busy.listen(0)
        before = stack.enter_context(socket.socket(socket.AF_UNIX))
        before.connect(os.fspath(path))
        with pytest.raises(NotReachable, match="does not answer within"):
            await ask(path, "echo", timeout=0.05)

        def serve_one():
            busy.accept()[0].close()
            with busy.accept()[0] as client:
                client.recv(1000)
                client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"here": 1}')

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, serve_one)
            assert await ask(path, "echo", timeout=60) == {"here": 1}


@pytest.mark.parametrize(("user", "role"), [(0, "admin"), (1, "operate"), (None, "admin")])
async def test_who_asks_has_a_role(path, monkeypatch, user, role):
    """None: the system does not say, and the mode of the file decides."""
    own = os.geteuid()
    monkeypatch.setattr(control, "peer_user", lambda _: None if user is None else user + own)

    async def who(call):
        return {"role": call.caller.role.text}

    table = Table([Route("GET", "/v1/who", Role.READ, object, "who", who)])
    async with trio.open_nursery() as nursery:
        subject = Subject(Gate(TokenStore(path)), table=table)
        await nursery.start(serve_control, path, Api(subject, table))
        answer = await raw(path, b"GET /v1/who HTTP/1.0\r\n\r\n")
        assert answer.endswith(b'{"role": "%s"}\n' % role.encode())
        nursery.cancel_scope.cancel()


async def test_the_socket_is_for_its_group_and_removed_at_the_end(path):
    before = os.umask(0o077)
    try:
        async with serving(path):
            assert path.stat().st_mode & 0o777 == control._MODE
    finally:
        os.umask(before)
    assert not path.exists()
    with pytest.raises(NotReachable, match="start `vswitch serve` there"):
        await ask(path, "echo")


async def test_a_stale_socket_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(os.fspath(path))
    with pytest.raises(NotReachable, match="refused"):
        await ask(path, "echo")
    async with serving(path):
        assert await ask(path, "echo") == {"echo": {}}


async def test_a_second_program_is_refused_and_the_first_goes_on(path):
    async with serving(path):
        with pytest.raises(VswitchError, match="another vswitch is running"):
            await serve_control(path, api(HANDLERS))
        assert await ask(path, "echo") == {"echo": {}}
    assert not path.exists()


async def test_the_socket_of_a_successor_is_not_removed(path):
    async with serving(path):
        path.unlink()
        path.touch()
    assert path.exists()


async def test_a_file_in_the_way_is_not_removed(path):
    path.write_text("precious")
    with pytest.raises(VswitchError, match="Address already in use"):
        await serve_control(path, api(HANDLERS))
    assert path.read_text() == "precious"


async def test_a_path_that_is_too_long_says_so(tmp_path):
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    with pytest.raises(ConfigError, match="choose a shorter --state"):
        await serve_control(directory / "control.sock", api(HANDLERS))


async def test_the_longest_path_that_is_allowed_works(tmp_path):
    name = "s" * (control.PATH_LIMIT - len(os.fsencode(tmp_path)) - 1)
    if not 0 < len(name) < 256:
        pytest.skip("the temporary directory has too long a path")
    async with serving(tmp_path / name):
        assert await ask(tmp_path / name, "echo") == {"echo": {}}


async def test_a_server_that_does_not_answer_in_time_is_not_reachable(path):
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(os.fspath(path))
        mute.listen()
        with pytest.raises(NotReachable, match=r"does not answer within 0\.01 s"):
            await ask(path, "echo", timeout=0.01)


@pytest.mark.parametrize(
    "line",
    [
        b"no HTTP\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\n\r\nno json",
        b'HTTP/1.0 400 Bad\r\n\r\n{"ok": false}',
        b"HTTP/1.0 nothing\r\n\r\n{}",
    ],
)
async def test_an_answer_that_is_nonsense_is_an_error(path, line):
    async with trio.open_nursery() as nursery:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        listener.listen()

        async def answer(stream):
            await stream.receive_some(1000)
            await stream.send_all(line)

        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        with pytest.raises(VswitchError, match="is it vswitch"):
            await ask(path, "echo")
        nursery.cancel_scope.cancel()


async def everything(path, **args):
    def read():
        with open_stream(path, "pour", **args) as stream:
            data = b"".join([stream.read()])
            stream.finish()
            while piece := stream.read():
                data += piece
            return data

    return await trio.to_thread.run_sync(read)


async def test_an_answer_may_go_over_to_a_stream_until_the_client_asks_for_its_end(path, caplog):
    async with serving(path):
        assert await everything(path) == b"first last"
        assert await everything(path, fails=True) == b"first "
        assert await ask(path, "echo") == {"echo": {}}
    assert "web-failed" in caplog.text
    assert not running


async def test_a_stream_ends_with_its_client(path):
    async with serving(path):
        stream = await trio.open_unix_socket(path)
        await stream.send_all(asking("pour"))
        assert await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert running
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not running


async def test_a_client_that_is_gone_is_no_fault_wherever_the_stream_sends(path, caplog):
    async def run(send, ended):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            while True:
                await send(bytes(1 << 16))

    async def from_a_nursery(args):
        return Stream(run)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, api({"pour": from_a_nursery}))
        stream = await trio.open_unix_socket(path)
        await stream.send_all(asking("pour"))
        assert await stream.receive_some()
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "failed" not in caplog.text


async def test_streams_are_bounded(path):
    async with serving(path), contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            stream = await stack.enter_async_context(await trio.open_unix_socket(path))
            await stream.send_all(asking("pour"))
            assert await stream.receive_some()
        with pytest.raises(RefusedError, match="8 others"):
            await everything(path)
        assert await ask(path, "echo") == {"echo": {}}
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await everything(path) == b"first last"


async def test_who_asks_for_the_end_and_does_not_read_is_dropped(path, autojump_clock):
    async def endless(_):
        async def run(send, ended):
            running.append(1)
            try:
                while True:
                    await send(bytes(65536))
            finally:
                running.pop()

        return Stream(run)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, path, api({"pour": endless}))
        stream = await trio.open_unix_socket(path)
        await stream.send_all(asking("pour"))
        await stream.send_eof()
        await trio.sleep(60)
        assert not running
        nursery.cancel_scope.cancel()
        await stream.aclose()
