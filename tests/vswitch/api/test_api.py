"""The API of a real switch over TCP: who may ask what, and what is said."""

import http.client
import json
import socket
import ssl
import threading
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from tests.vswitch.control import verbs_api
from vswitch.api.gate import Gate
from vswitch.api.http import Api
from vswitch.api.openapi import schema_of
from vswitch.api.roles import Role
from vswitch.api.routes import SWITCH
from vswitch.api.table import Route, Subject, Table
from vswitch.api.tokens import TokenStore
from vswitch.cli import main
from vswitch.errors import VswitchError
from vswitch.features.rule_set import read_rules
from vswitch.management.client import request
from vswitch.management.handlers import rules
from vswitch.management.status import JoinStatus, Peers, from_json
from vswitch.web.requests import Request, Routes
from vswitch.web.server import Limits, WebServer


class Client:
    """Asks over HTTP, in a thread."""

    def __init__(self, where, token=None):
        self.where = where
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def __call__(self, method, path, body=None, **headers):
        return await trio.to_thread.run_sync(self._ask, method, path, body, headers)

    def _ask(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self.where, timeout=20)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {**self.headers, **headers})
            answer = connection.getresponse()
            said = answer.read()
            is_json = answer.headers.get("Content-Type") == "application/json"
            return answer.status, json.loads(said) if is_json else said, answer.headers
        finally:
            connection.close()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@asynccontextmanager
async def an_api(site, **options):
    """A switch with tokens of each role; what asks with one of them, or with none."""
    site.files.ensure()
    store = TokenStore(site.files.tokens)
    tokens = {role: store.create(role.text, role) for role in Role if role is not Role.OPEN}
    async with site.serving(api="127.0.0.1:0", **options) as running:
        where = running.underlay.api
        yield lambda role=None: Client(where, tokens.get(role, role)), running


async def test_a_body_that_is_none_is_the_fault_of_its_client(site, caplog):
    async with an_api(site) as (client, _):
        head = "POST /v1/login HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        host, _, port = client().where.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(head.encode() + b"1\r\nabc\r\n")
            said = b"".join([piece async for piece in stream])
        assert said.startswith(b"HTTP/1.1 400 ")
    assert "api-failed" not in caplog.text


async def test_status_and_who_asks(site):
    async with an_api(site) as (client, running):
        status, said, _ = await client(Role.READ)("GET", "/v1/status")
        assert (status, said["schema"], said["api"]) == (200, 1, running.underlay.api)
        assert (await client(Role.READ)("GET", "/v1/ports"))[1] == {"ports": [], "schema": 1}
        status, said, headers = await client()("GET", "/v1/status")
        assert (status, said["code"]) == (401, 7)
        assert headers["WWW-Authenticate"] == "Bearer"
        assert (await client("vsw_nonsense")("GET", "/v1/status"))[0] == 401
        status, said, _ = await client(Role.READ)("GET", "/v1/status?network=other")
        assert (status, said["code"]) == (404, 5)
        assert (said["problem"], said["about"]) == ("no_network", {"name": "other"})
        assert (await client(Role.READ)("GET", "/v1/status?x=1"))[0] == 400
        assert (await client(Role.READ)("PUT", "/v1/status"))[0] == 405
        assert (await client(Role.READ)("GET", "/v1/nothing"))[0] == 404
        status, said, _ = await client(Role.READ)("GET", "/v1/openapi.json")
        assert said["openapi"] == "3.1.0"
        assert "/v1/status" in said["paths"]


async def test_a_session_of_the_page(site):
    async with an_api(site) as (client, _):
        token = client(Role.ADMIN).headers["Authorization"].split()[1]
        status, said, headers = await client()("POST", "/v1/login", {"token": token})
        assert (status, said["role"]) == (200, "admin")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        mine = {"Cookie": cookie.split(";")[0]}
        status, again, _ = await client()("GET", "/v1/session", **mine)
        assert (status, again["csrf"]) == (200, said["csrf"])
        for place, status in (("same-origin", 200), ("none", 200), ("same-site", 401)):
            found = await client()("GET", "/v1/session", **mine, **{"Sec-Fetch-Site": place})
            assert found[0] == status
        from_elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert (await client()("POST", "/v1/login", {"token": token}, **from_elsewhere))[0] == 403
        # What has no Fetch Metadata says at least where the page is from.
        here = client().where
        for origin, status in (
            (f"http://{here}", 200),
            (f"HTTPS://{here}", 200),  # before a proxy that ends the TLS
            (f"http://{here}.evil.example", 403),
            ("http://evil.example", 403),
            (f"ftp://{here}", 403),
            ("null", 403),
            (here, 403),
        ):
            found = await client()("POST", "/v1/login", {"token": token}, Origin=origin)
            assert (origin, found[0]) == (origin, status)
            found = await client()("GET", "/v1/session", **mine, Origin=origin)
            assert (origin, found[0]) == (origin, 200 if status == 200 else 401)
        body = {"name": "other", "role": "read"}
        assert (await client()("POST", "/v1/tokens", body, **mine))[0] == 403
        right = {**mine, "X-CSRF-Token": said["csrf"]}
        status, made, _ = await client()("POST", "/v1/tokens", body, **right)
        assert status == 200
        assert (await client(made["token"])("GET", "/v1/status"))[0] == 200
        assert (await client()("DELETE", "/v1/tokens/other", **right))[0] == 204
        assert (await client(made["token"])("GET", "/v1/status"))[0] == 401
        # With its token a session ends, too.
        assert (await client()("DELETE", "/v1/tokens/admin", **right))[0] == 204
        assert (await client()("GET", "/v1/session", **mine))[0] == 401


def path_of(row):
    return row.path.replace("{name}", "x").replace("{address}", "10.0.0.9")


async def test_each_row_refuses_nobody_and_a_lesser_role(site):
    async with an_api(site) as (client, _):
        for row in SWITCH.rows:
            if row.role is Role.OPEN:
                continue
            assert (await client()(row.method, path_of(row)))[0] == 401, row
            for role in (Role.READ, Role.OPERATE):
                if role < row.role:
                    status, said, _ = await client(role)(row.method, path_of(row))
                    assert (status, said["code"]) == (403, 7), row


async def test_what_is_kept_needs_who_administers(site):
    """Whatever else its row allows."""
    listen = f"tcp://127.0.0.1:{free_port()}"
    asked = [
        ("PATCH", "/v1/ports/{name}", "/v1/ports/x?", {"isolated": True}),
        ("PATCH", "/v1/switch", "/v1/switch?", {"guard": True}),
        ("POST", "/v1/published", "/v1/published?", {"listen": listen, "to": "x:80"}),
        ("DELETE", "/v1/published", f"/v1/published?listen={listen}&", None),
        ("PUT", "/v1/rules", "/v1/rules?", {"table": {}}),
    ]
    keeping = [row for row in SWITCH.rows if row.query and "save" in attrs.fields_dict(row.query)]
    assert {(row.method, row.path) for row in keeping} == {each[:2] for each in asked}
    async with an_api(site) as (client, _):
        operator, admin = client(Role.OPERATE), client(Role.ADMIN)
        for method, _, where, body in asked:
            status, said, _ = await operator(method, f"{where}save=true", body)
            assert (status, said["code"]) == (403, 7), where
            assert "needs the role admin" in said["error"]
        for method, path, where, body in asked:
            found, said, _ = await operator(method, f"{where}save=false", body)
            assert found == (403 if path == "/v1/rules" else 200), said
        assert not site.files.saved.exists()
        for method, _, where, body in (asked[0], *asked[2:]):
            status, said, _ = await admin(method, f"{where}save=true", body)
            assert status == 200, said
        assert "isolated = true" in site.files.saved.read_text()


async def test_wrong_tokens_are_slowed_and_right_ones_are_not(site):
    async with an_api(site) as (client, running):
        found = {(await client("vsw_wrong")("GET", "/v1/status"))[0] for _ in range(14)}
        assert found == {401, 429}
        assert (await client(Role.READ)("GET", "/v1/status"))[0] == 200
        assert running.underlay.web["gate"]["slowed"] >= 1


@pytest.mark.parametrize("listen", ["0.0.0.0:7480", ":7480", "192.0.2.1:7480", "host:7480"])
def test_plain_text_is_for_this_host_alone(site, listen):
    with pytest.raises(ValueError, match=r"of this host|this host alone"):
        site.serve_config(api=listen)


async def test_who_was_slower_does_not_undo_what_others_did(site):
    async with an_api(site) as (client, _):
        admin = client(Role.ADMIN)
        status, _, headers = await admin("GET", "/v1/rules")
        seen = headers["ETag"]
        assert (await admin("GET", "/v1/rules", **{"If-None-Match": seen}))[0] == 304
        deny = {"table": {"default": "deny"}}
        status, said, headers = await admin("PUT", "/v1/rules", deny, **{"If-Match": seen})
        assert (status, said["default"]) == (200, "deny")
        assert headers["ETag"] != seen
        status, said, _ = await admin("PUT", "/v1/rules", {"table": {}}, **{"If-Match": seen})
        assert status == 412
        assert (await admin("GET", "/v1/rules"))[1]["default"] == "deny"
        mine = {"If-Match": f'"x", {headers["ETag"]}'}
        assert (await admin("PUT", "/v1/rules", {"table": {}}, **mine))[0] == 200
        seen = (await admin("GET", "/v1/rules"))[2]["ETag"]
        groups = {"table": {"groups": {"office": ["pc1"]}}}
        said = (await admin("PUT", "/v1/rules", groups))[1]
        assert (said["groups"], said["said"]) == ({"office": ["pc1"]}, "live")
        assert (await admin("PUT", "/v1/rules", {"table": {}}, **{"If-Match": seen}))[0] == 412


async def test_rules_are_looked_at_one_after_the_other(monkeypatch):
    """However many ask for that at once: each takes the time of frames."""
    running, most = [], []

    def read(table, place):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.01)
        running.pop()
        return read_rules(table, place)

    monkeypatch.setattr(rules, "read_rules", read)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(rules.rules_check, None, {"table": {}, "ask": []})
    assert most == [1] * 5


async def test_of_two_at_once_by_two_faces_one_is_refused(tmp_path):
    """Each listener has a face of its own, and what they change is the same."""
    kept = [0]

    async def show(call):
        return {"kept": kept[0]}

    async def change(call):
        await wait_all_tasks_blocked()  # as one that waits for a thread
        kept[0] += 1
        return await show(call)

    table = Table(
        (
            Route("GET", "/v1/x", Role.READ, dict, "", show, etag=True),
            Route("PUT", "/v1/x", Role.ADMIN, dict, "", change),
        )
    )
    subject = Subject(Gate(TokenStore(tmp_path / "tokens")))
    statuses = []

    async def body(limit):
        return b""

    async def ask(method, **headers):
        request = Request(method, "/v1/x", "", headers, "unix:0", body)
        answer = await Api(subject, table).find(request)(request)
        statuses.append(answer.status)
        return dict(answer.headers)

    seen = (await ask("GET"))["ETag"]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(partial(ask, "PUT", **{"if-match": seen}))
    assert (sorted(statuses), kept) == ([200, 200, 412], [1])


async def test_rules_are_looked_at_before_they_are_in_force(site):
    async with an_api(site) as (client, _):
        admin = client(Role.ADMIN)
        table = {"list": ["deny pc1 -> pc2 tcp 22"], "tests": ["pc1 -> pc2 tcp 80 allowed"]}
        asked = {"table": table, "ask": ["pc1 -> pc2 tcp 22", "pc2 -> pc1"]}
        status, said, _ = await admin("POST", "/v1/rules/check", asked)
        assert (status, said["rules"], said["tests"]) == (200, 1, 1)
        assert [(each["allowed"], each["by"]) for each in said["verdicts"]] == [
            (False, "rule 1: deny pc1 -> pc2 tcp 22"),
            (True, "the default of [rules]: allow"),
        ]
        for wrong, why in (
            ({"table": {"list": ["deny pc1"]}}, "rules.list 1, 'deny pc1'"),
            ({"table": {**table, "tests": ["pc1 -> pc2 tcp 22 allowed"]}}, "rules.tests 1"),
            ({"table": {}, "ask": ["?"]}, "ask, '?"),
            ({"table": {}, "ask": ["pc1 -> pc2"] * 17}, "at most 16"),
        ):
            status, said, _ = await admin("POST", "/v1/rules/check", wrong)
            assert (status, why in said["error"]) == (400, True), said
        assert (await admin("GET", "/v1/rules"))[1]["rules"] == []


LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/trace", {}, 400),
        ("POST", "/v1/trace", {"frame": 7}, 400),
        ("POST", "/v1/trace", {"frame": "x", "more": 1}, 400),
        ("POST", "/v1/trace", [], 400),
        ("POST", "/v1/trace", {"frame": "x" * (1 << 20)}, 413),
        ("POST", "/v1/invites", {"name": "pc1", "public": "a.example"}, 400),
        ("POST", "/v1/invites", {"name": "pc1", "expires": -1}, 400),
        ("POST", "/v1/tokens", {"name": "x", "role": "open"}, 400),
        ("POST", "/v1/tokens", {"name": "x", "role": LONG}, 400),
        ("POST", "/v1/tokens", {"name": LONG}, 400),
        ("POST", "/v1/tokens", {"name": "admin"}, 409),
        ("POST", "/v1/macs", {"name": "\u202e", "mac": "02:00:00:00:00:01"}, 400),
        ("POST", "/v1/macs", {"name": LONG, "mac": "02:00:00:00:00:01"}, 400),
        ("POST", "/v1/rules/check", {"table": {"default": [LONG]}}, 400),
        ("POST", "/v1/rules/check", {"table": {LONG: 1}}, 400),
        ("POST", "/v1/rules/check", {"table": {"groups": {f"{LONG}_": []}}}, 400),
        ("PATCH", "/v1/ports/pc1", {"vlan": "5000"}, 400),
        ("GET", "/v1/macs?vlan=many", None, 400),
        ("GET", "/v1/events?since=x", None, 400),
        ("GET", "/v1/members/pc1", None, 404),
        ("GET", "/v1/leases", None, 409),
        ("DELETE", "/v1/tokens/nobody", None, 404),
        ("GET", "/v1/ports/a/b", None, 404),
    ],
)
async def test_what_is_wrong_is_told(site, method, path, body, status):
    async with an_api(site) as (client, _):
        found, said, _ = await client(Role.ADMIN)(method, path, body)
        assert (found, set(said)) == (status, {"error", "code", "problem", "about"}), said
        assert len(said["error"]) < 500


async def test_a_member_answers_on_its_own_socket(site):
    async with an_api(site) as (_, running), site.joined("pc1", running) as member:
        path = member.config.files.join_socket("pc1")
        for verb, kind in (("status", JoinStatus), ("peers", Peers)):
            said = await trio.to_thread.run_sync(request, path, verb)
            schemas = {}
            schema_of(kind, schemas)
            assert said.keys() == schemas[kind.__name__]["properties"].keys()
            assert from_json(said, kind)
        listed = (await trio.to_thread.run_sync(request, path, "events"))["events"]
        (first,) = [each for each in listed if each["kind"] == "connected"]
        assert (first["member"], first["switch_port"], first["port"]) == ("pc1", 1, "")
        async with await trio.open_unix_socket(str(path)) as stream:
            head = "GET /v1/events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
            await stream.send_all(head.encode())
            said = b""
            while said.count(b"data: ") < len(listed):
                said += await stream.receive_some()
        assert b"Content-Type: text/event-stream" in said
        assert b'id: %d\ndata: {"number": %d,' % (first["number"], first["number"]) in said


async def test_a_body_that_does_not_come_costs_one_connection(autojump_clock):
    limits = Limits()
    api = verbs_api({"trace": None})
    routes = Routes()
    routes.add_table(api.find)
    server = WebServer(routes, limits)
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs, "unix:0", None)
        await ours.send_all(b"POST /v1/trace HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        with trio.fail_after(limits.body + 1):
            assert await ours.receive_some() == b""
    assert server.counters == {"slow": 1}


async def test_a_member_is_changed_from_afar(site):
    async with an_api(site) as (client, running), site.joined("pc1", running) as member:
        admin = client(Role.ADMIN)
        status, said, _ = await admin("PATCH", "/v1/members/pc1", {"name": "office"})
        assert (status, said["name"]) == (200, "office")
        status, said, _ = await admin("POST", "/v1/members/office/disable")
        assert said["disabled"] is not None
        for what in ("enable", "disable"):  # who may come is not how the switch runs
            status, said, _ = await client(Role.OPERATE)("POST", f"/v1/members/office/{what}")
            assert (status, said["about"]["wanted"]) == (403, "admin")
        assert (await admin("GET", "/v1/members/office"))[1]["disabled"] is not None
        body = {"name": "pc2", "public": ["a.example:7450"]}
        status, said, _ = await admin("POST", "/v1/invites", body)
        assert said["string"].startswith("vsw")
        assert (await admin("GET", "/v1/members"))[1]["invites"][0]["name"] == "pc2"
        assert (await admin("DELETE", "/v1/members/office"))[0] == 200
        assert await member.wait_ended()


async def test_the_api_is_on_https_where_the_file_has_a_table(site):
    site.files.ensure()
    token = TokenStore(site.files.tokens).create("reader", Role.READ)
    config = site.path / "serve.toml"
    for text, status in (("[api]\n", 200), ("[api]\nhttps = false\n", 404), ("", 404)):
        config.write_text(f"[names]\nenabled = false\n{text}")
        where = f"127.0.0.1:{free_port()}"
        options = {"https": where, "config": config}
        options |= {"api_https": False} if "false" in text else {}
        async with site.serving(**options):

            def ask(where):
                context = ssl._create_unverified_context()
                connection = http.client.HTTPSConnection(where, timeout=20, context=context)
                try:
                    headers = {"Authorization": f"Bearer {token}"}
                    connection.request("GET", "/v1/status", headers=headers)
                    return connection.getresponse().status
                finally:
                    connection.close()

            assert await trio.to_thread.run_sync(ask, where) == status


async def test_a_fault_of_the_listener_ends_that_alone(site, caplog, monkeypatch, until):
    async def broken(self, listeners, context, *, task_status):
        task_status.started(listeners)
        await wait_all_tasks_blocked()  # where it listens has been noted
        for listener in listeners:
            await listener.aclose()
        raise RuntimeError("a fault")

    site.files.ensure()
    monkeypatch.setattr("vswitch.serving.api.WebServer.serve", broken)
    async with site.serving(api="127.0.0.1:0") as running:
        await until(lambda: running.underlay.api is None)
        assert (await site.status()).api is None
        async with site.joined("pc1", running):
            assert [port.name for port in (await site.status()).ports] == ["pc1"]
    assert "api-ended" in caplog.text


async def test_a_handler_with_a_fault_costs_one_answer_and_tells_nothing(site, monkeypatch, caplog):
    async def broken(self):
        raise RuntimeError("secret detail")

    async with an_api(site) as (client, running):
        with monkeypatch.context() as patch:
            patch.setattr("vswitch.serving.status.ServeStatus.read", broken)
            controlled = running.underlay.subject.networks["default"]
            patch.setattr(type(controlled), "status", broken)
            status, said, _ = await client(Role.READ)("GET", "/v1/ports")
        assert (status, said["code"]) == (500, 1)
        assert "secret detail" not in said["error"]
        assert said["error"].rpartition("=")[2] in caplog.text
        assert (await client(Role.READ)("GET", "/v1/ports"))[0] == 200


async def test_the_command_makes_lists_and_revokes_tokens(site, capsys):
    async def command(*words):
        argv = ["token", *words, "--state", str(site.files.path)]
        code = await trio.to_thread.run_sync(main, argv)
        return code, capsys.readouterr()

    code, said = await command("create", "grafana", "--role", "operate")
    secret = said.out.splitlines()[-1]
    assert (code, secret.startswith("vsw_"), len(secret)) == (0, True, 47)
    kept = site.files.tokens
    assert secret not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    code, said = await command("list")
    assert said.out.split()[6:8] == ["grafana", "operate"]
    async with an_api(site) as (client, _):
        mine = client(secret)
        assert (await mine("GET", "/v1/status"))[0] == 200
        code, said = await command("list", "--json")
        told = {each["name"]: each for each in json.loads(said.out)["tokens"]}
        assert told["grafana"]["used"] >= told["grafana"]["created"]
        assert (await command("revoke", "grafana"))[0] == 0
        assert (await mine("GET", "/v1/status"))[0] == 401
    assert (await command("revoke", "grafana"))[0] == 5
    assert (await command("create", "admin"))[0] == 4
    for wrong in (["create"], ["list", "x"], ["revoke", "x", "--role", "read"], ["create", "A b"]):
        assert (await command(*wrong))[0] == 2
    kept.write_text("{}")
    code, said = await command("list")
    assert (code, "not a file of tokens" in said.err) == (2, True)


def test_a_use_that_cannot_be_noted_is_not_tried_each_time(tmp_path, monkeypatch):
    store = TokenStore(tmp_path / "tokens.json")
    store.create("x", Role.READ)
    (token,) = store.all()
    assert store.due(token)

    def full(path, data):
        raise VswitchError("no space")

    monkeypatch.setattr("vswitch.api.tokens.write_file", full)
    with pytest.raises(VswitchError):
        store.note_use("x")
    assert not store.due(token)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hash": 5},
        {"hash": "ü" * 64},
        {"hash": None},
        {"name": 5},
        {"name": "a b"},
        {"role": ["admin"]},
        {"created": "yesterday"},
        {"created": float("nan")},
        {"used": float("inf")},
        {"more": 1},
    ],
)
def test_a_file_of_tokens_that_somebody_has_edited_is_told_and_lets_nobody_in(tmp_path, wrong):
    store = TokenStore(tmp_path / "tokens.json")
    secret = store.create("a", Role.ADMIN)
    said = json.loads((tmp_path / "tokens.json").read_text())
    said["tokens"][0] |= wrong
    (tmp_path / "tokens.json").write_text(json.dumps(said))
    with pytest.raises(VswitchError, match="not a file of tokens"):
        TokenStore(tmp_path / "tokens.json").find(secret)
