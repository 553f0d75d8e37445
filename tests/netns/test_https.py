"""The HTTPS listener on real sockets, asked by curl, with openssl's certificates."""

import contextlib
import subprocess

import pytest
import trio

from tests.vswitch.web.test_certificates import make
from vswitch.web.certificates import Certificate
from vswitch.web.requests import Response, Routes
from vswitch.web.server import WebServer

pytestmark = pytest.mark.netns("curl", "openssl")


async def curl(*arguments):
    done = await trio.run_process(
        ["curl", "--silent", "--show-error", *arguments],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


@contextlib.asynccontextmanager
async def serving(certificate, routes=None):
    server = WebServer(routes or Routes())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners, certificate.context)
        yield server, listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
    assert server.connections == 0


async def test_pages_bodies_and_a_certificate_that_changes(tmp_path):
    async def echo(request):
        return Response(200, await request.body())

    async def stream(request):
        async def pieces():
            for number in range(3):
                yield b"data: %d\n\n" % number

        return Response(200, pieces(), [("Content-Type", "text/event-stream")])

    routes = Routes()
    routes.add("POST", "/echo", echo)
    routes.add("GET", "/events", stream)
    files = make(tmp_path)
    async with serving(Certificate(*files), routes) as (_, port):
        url = f"https://switch.example:{port}"
        known = ["--cacert", files[0], "--resolve", f"switch.example:{port}:127.0.0.1"]
        assert (await curl(*known, url))[1].startswith(b"<!doctype html>")
        assert (await curl(*known, "--head", f"{url}/none"))[1].startswith(b"HTTP/1.1 404 ")
        body = tmp_path / "body"
        body.write_bytes(bytes(range(256)) * 1000)
        code, said = await curl(*known, "--data-binary", f"@{body}", f"{url}/echo")
        assert (code, said) == (0, body.read_bytes())
        assert (await curl(*known, f"{url}/events"))[1].count(b"data: ") == 3
        body.write_bytes(bytes(2_000_000))
        said = (await curl(*known, "--include", "--data-binary", f"@{body}", f"{url}/echo"))[1]
        assert b"HTTP/1.1 413 " in said
        old = tmp_path / "old.pem"
        old.write_bytes(files[0].read_bytes())
        make(tmp_path)
        assert (await curl(*known, url))[0] == 0
        assert (await curl("--cacert", old, *known[2:], url))[0] == 60  # no authority for it


async def test_a_self_signed_one():
    async with serving(Certificate()) as (_, port):
        assert (await curl(f"https://127.0.0.1:{port}"))[0] == 60
        assert (await curl("--insecure", f"https://127.0.0.1:{port}"))[0] == 0
        assert (await curl(f"http://127.0.0.1:{port}"))[0] != 0
