"""What a service manager is told: start, reload, state, watchdog."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import trio
from trio.testing import MockClock

from vswitch.supervision import READY, Readiness, keep_told, notify, reloading, status, watchdog


class Manager:
    """A fake one, with the variables that it gives."""

    def __init__(self, address: str, **more: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address, **more}

    def told(self) -> list[str]:
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/abstract"
    made = Manager(address)
    with made.socket:
        yield made


def test_lines_go_in_one_datagram_to_a_path_or_an_abstract_name(manager):
    notify(READY, status("well\nWATCHDOG=1"), environ=manager.environ)
    assert manager.told() == ["READY=1\nSTATUS=well?WATCHDOG=1"]


def test_a_reload_is_told_with_its_time_and_ends_also_where_it_is_refused(manager):
    before = time.monotonic_ns() // 1000

    def refuse() -> None:
        with reloading(manager.environ):
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        refuse()
    told, after = manager.told()
    first, _, stamp = told.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(stamp) <= time.monotonic_ns() // 1000
    assert after == READY


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_who_is_watched_and_how_closely(environ, seconds):
    assert watchdog(environ, 7) == seconds


@pytest.fixture
def autojump_clock():
    return MockClock(autojump_threshold=0)


async def test_the_watchdog_is_fed_twice_as_often_as_asked_and_a_state_told_once(
    manager, autojump_clock
):
    state = ["starting"]
    environ = manager.environ | {"WATCHDOG_USEC": "4000000"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_told, lambda: state[0], environ)
        await trio.sleep(3)
        assert manager.told() == ["WATCHDOG=1\nSTATUS=starting", "WATCHDOG=1"]
        state[0] = "serving"
        await trio.sleep(2)
        assert manager.told() == ["WATCHDOG=1\nSTATUS=serving"]
        nursery.cancel_scope.cancel()


async def test_without_a_watchdog_only_a_state_that_changes_is_told(manager, autojump_clock):
    state = ["starting"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_told, lambda: state[0], manager.environ)
        await trio.sleep(60)
        state[0] = "serving"
        await trio.sleep(60)
        assert manager.told() == ["STATUS=starting", "STATUS=serving"]
        nursery.cancel_scope.cancel()


async def test_a_loop_that_hangs_feeds_nothing(manager):
    environ = manager.environ | {"WATCHDOG_USEC": "20000"}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_told, None, environ)
        await trio.lowlevel.wait_readable(manager.socket)
        assert manager.told()
        threading.Event().wait(0.1)  # as a call that does not return
        assert manager.told() == []
        nursery.cancel_scope.cancel()


async def test_where_nobody_listens_there_is_no_task():
    await keep_told(lambda: "serving", {})
    await keep_told(None, {"NOTIFY_SOCKET": "@nobody"})


def test_readiness_is_told_once_and_keeps_what_it_was_told(manager, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.environ["NOTIFY_SOCKET"])
    ready = Readiness()
    ready.started("first")
    ready.started("second")
    assert manager.told() == ["READY=1"]
    assert ready.value == "second"
