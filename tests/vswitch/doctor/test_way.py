"""The clock behind an address, and places without a key, on loopback."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trio

from vswitch.addresses import HostPort
from vswitch.cli import main
from vswitch.doctor import way
from vswitch.errors import ExitCode


@contextmanager
def a_clock(ahead, other=None):
    """An HTTP server whose clock is wrong by that, and which may send its clients elsewhere."""

    class Page(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp=None):
            import time

            return super().date_time_string(time.time() + ahead)

        def do_GET(self):
            if other is None:
                self.send_error(404)
            else:
                self.send_response(302)
                self.send_header("Location", "http://{}:{}/".format(*other))
                self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_clock_that_is_behind_is_measured():
    with a_clock(3600) as url:
        skew = way.skew_at(url)
    assert -3700 < skew < -3500
    assert way.skew_at(url) is None  # nobody answers any more


def test_nobody_else_is_asked_the_time():
    with socket.create_server(("127.0.0.1", 0)) as other, a_clock(60, other.getsockname()) as url:
        assert -70 < way.skew_at(url) < -50
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_a_clock_that_answers_a_byte_at_a_time_costs_no_other_fact(monkeypatch):
    monkeypatch.setattr(way, "CLOCK_PATIENCE", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 200 OK\r\nX: ")
                while not over.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with trio.fail_after(20):
                assert await way.ask_clock(f"http://127.0.0.1:{listener.getsockname()[1]}") is None
        finally:
            over.set()
            thread.join()


def test_what_speaks_no_http_has_no_clock():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert way.skew_at(f"http://127.0.0.1:{listener.getsockname()[1]}") is None
        thread.join()


async def test_a_place_where_somebody_listens_and_one_where_nobody_does():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        place = HostPort("127.0.0.1", sock.getsockname()[1])
        facts = await way.ask_place(place)
        assert (facts.closed, facts.unresolved, facts.unreachable) == (None, None, None)
        assert facts.keyless
        assert facts.link_mtu > 9000
    facts = await way.ask_place(place)
    assert ("ICMP" in facts.closed, facts.keyless) == (True, False)


def test_the_command_ends_with_1_for_a_problem_and_2_for_what_it_cannot_read(tmp_path, capsys):
    state = ["--state", str(tmp_path / "none")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert main(["netcheck", f"127.0.0.1:{port}", *state]) == ExitCode.OK
    assert " bytes" in capsys.readouterr().out
    assert main(["doctor", f"127.0.0.1:{port}", *state]) == ExitCode.FAILED
    out = capsys.readouterr().out
    assert "problem: Nobody listens at that place [port-closed]" in out
    assert main(["doctor", "a b", *state]) == ExitCode.USAGE
    assert "no join string" in capsys.readouterr().err
    (tmp_path / "none" / "members").mkdir(parents=True, mode=0o700)
    (tmp_path / "none" / "members" / "a b.toml").touch()  # which is no membership of ours
    assert main(["doctor", "a b", *state]) == ExitCode.USAGE
    assert "no membership" in capsys.readouterr().err
