"""What goes on: events, frames and captures of a real switch over TCP."""

import json

import pytest
import trio

from tests.vswitch.api.test_api import an_api
from vswitch.api import events as sse
from vswitch.api import http
from vswitch.api.events import as_events, last_event_id
from vswitch.api.roles import Role
from vswitch.api.tokens import TokenStore
from vswitch.frames.build import arp_request
from vswitch.frames.pcapng import totals_at_end
from vswitch.management.stream import Stream

ARP = arp_request("02:00:00:00:00:11", "10.0.0.1", "10.0.0.2")


class Following:
    """One request whose answer goes on."""

    def __init__(self, client, path, **headers):
        self.host, _, self.port = client.where.partition(":")
        said = {"Host": "x", **client.headers, **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.request = f"GET {path} HTTP/1.0\r\n{lines}\r\n".encode()
        self.data = b""

    async def __aenter__(self):
        self.stream = await trio.open_tcp_stream(self.host, int(self.port))
        await self.stream.send_all(self.request)
        await self.until(lambda data: b"\r\n\r\n" in data)
        self.head, _, self.data = self.data.partition(b"\r\n\r\n")
        return self

    async def __aexit__(self, *_):
        await self.stream.aclose()

    async def until(self, enough):
        with trio.fail_after(20):
            while not enough(self.data):
                piece = await self.stream.receive_some()
                assert piece, self.data
                self.data += piece

    def events(self):
        blocks = self.data.split(b"\n\n")
        fields = [dict(line.split(b": ", 1) for line in each.splitlines()) for each in blocks[:-1]]
        return [(each.get(b"id"), json.loads(each[b"data"])) for each in fields if b"data" in each]


async def test_events_go_on_where_they_were_left(site):
    as_stream = {"Accept": "text/event-stream"}
    async with an_api(site) as (client, running):
        reader = client(Role.READ)
        async with Following(reader, "/v1/events", **as_stream) as first:
            assert b"text/event-stream" in first.head
            async with running.switch.open_port("one"):
                await first.until(lambda data: b"port-up" in data)
                number, said = first.events()[-1]
                assert (said["kind"], said["port"], number) == (
                    "port-up",
                    "one",
                    b"%d" % said["number"],
                )
        async with running.switch.open_port("two"):
            again = {**as_stream, "Last-Event-ID": number.decode()}
            async with Following(reader, "/v1/events", **again) as second:
                await second.until(lambda data: b"two" in data)
                assert [each["number"] for _, each in second.events()] == [
                    said["number"] + 1,
                    said["number"] + 2,
                ]
            # Of a switch that was there before this one.
            again["Last-Event-ID"] = "99999"
            async with Following(reader, "/v1/events", **again) as third:
                await third.until(lambda data: b"two" in data)
                assert third.events()[0][1]["number"] == 1
        status, listed, _ = await reader("GET", "/v1/events?since=1")
        assert (status, listed["events"][0]["number"]) == (200, 2)


async def test_frames_come_with_what_becomes_of_them(site):
    async with an_api(site) as (client, running), running.switch.open_port("one") as one:
        operator = client(Role.OPERATE)
        async with Following(operator, "/v1/frames?port=one&direction=in") as frames:
            await frames.until(lambda data: b"retry" in data)
            await one.send(ARP)
            await frames.until(lambda data: b"verdict" in data)
            said = frames.events()[0][1]
        assert (said["port"], said["direction"], said["verdict"]) == ("one", "in", "dropped")
        assert said["reason"].startswith("no_destination")
        assert (said["size"], "arp" in said["summary"]) == (len(ARP), True)
        async with (
            running.switch.open_port("two"),
            Following(operator, "/v1/frames?filter=arp") as frames,
        ):
            await frames.until(lambda data: b"retry" in data)
            await one.send(ARP)
            await frames.until(lambda data: data.count(b"verdict") >= 2)
            found = {each["port"]: each["verdict"] for _, each in frames.events()}
        assert found == {"one": "forwarded", "two": "sent"}


async def test_a_capture_is_a_whole_file(site):
    async with an_api(site) as (client, running), running.switch.open_port("one") as one:
        async with Following(client(Role.OPERATE), "/v1/capture?count=1&port=one") as capture:
            assert b"application/x-pcapng" in capture.head
            await capture.until(bool)
            await one.send(ARP)
            with trio.fail_after(20):
                while piece := await capture.stream.receive_some():
                    capture.data += piece
        assert ARP in capture.data
        assert totals_at_end(capture.data) == (1, 0)
        status, said, _ = await client(Role.OPERATE)("GET", "/v1/capture?port=nobody")
        assert (status, said["code"]) == (404, 5)


async def test_a_stream_is_alive_while_nothing_happens(autojump_clock):
    sent = []

    async def run(send, ended):
        await send(b'{"number": 7, ')
        await trio.sleep(40)
        await send(b'"kind": "x"}\n{"seen": 1}\n')

    async def send(data):
        sent.append(data)

    await as_events(Stream(run)).run(send, trio.Event())
    assert sent == [
        b"retry: 1000\n\n",  # with the first that is said, be it nothing
        b":\n\n",
        b":\n\n",
        b'id: 7\ndata: {"number": 7, "kind": "x"}\n\ndata: {"seen": 1}\n\n',
    ]
    assert sse.HEARTBEAT * 2 < 40


@pytest.mark.parametrize(
    ("text", "number"), [(None, None), ("7", 7), ("-1", None), ("٣", None), ("9" * 9000, None)]
)
def test_the_last_event_that_a_client_has_seen(text, number):
    assert last_event_id(text) == number


async def test_a_stream_ends_with_the_token_or_the_session_of_its_caller(site, monkeypatch):
    monkeypatch.setattr(http, "STILL_HERE", 0.01)
    as_stream = {"Accept": "text/event-stream"}
    async with an_api(site) as (client, running):
        tokens = TokenStore(site.files.tokens)
        bearer = client(tokens.create("camera", Role.READ))
        status, said, headers = await client(None)(
            "POST", "/v1/login", {"token": tokens.create("page", Role.OPERATE)}
        )
        assert status == 200
        cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
        csrf = {"X-CSRF-Token": said["csrf"]}

        async def ended(stream):
            with pytest.raises(AssertionError), trio.fail_after(20):
                await stream.until(lambda data: False)

        async with (
            Following(bearer, "/v1/events", **as_stream) as of_token,
            Following(client(None), "/v1/frames?all=true", **cookie) as of_session,
            Following(client(Role.READ), "/v1/events", **as_stream) as other,
        ):
            tokens.revoke("camera")
            await ended(of_token)
            assert (await client(None)("POST", "/v1/logout", **cookie, **csrf))[0] == 200
            await ended(of_session)
            async with running.switch.open_port("later"):
                await other.until(lambda data: b"later" in data)
