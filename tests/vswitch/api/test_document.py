"""The API against its own document: each answer is as it says, and nothing that it allows to ask,
or almost, breaks anything.
"""

import json
import re
import warnings
from contextlib import suppress
from itertools import product

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.vswitch.api.test_api import Client, free_port
from tests.vswitch.control import a_member
from vswitch.api.member import MEMBER
from vswitch.api.openapi import document
from vswitch.api.roles import Role
from vswitch.api.routes import SWITCH
from vswitch.api.tokens import TokenStore
from vswitch.management.client import VERBS

schemathesis = pytest.importorskip("schemathesis")
Draft202012Validator = pytest.importorskip("jsonschema_rs").Draft202012Validator
MAC = "02:00:00:00:00:77"
EXAMPLES = 12  # of each operation
FEW = 6  # of a member's: a switch answers who is there 16 times at once, and then once a second


def strict(schemas):
    """With each key that a class does not have a fault."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }


async def test_each_answer_is_what_the_document_says(site):
    site.files.ensure()
    token = TokenStore(site.files.tokens).create("admin", Role.ADMIN)
    config = site.path / "serve.toml"
    config.write_text(
        "[names]\nenabled = false\n[dhcp]\nenabled = true\nrange = '10.77.0.100-10.77.0.120'\n"
        "[rules]\nlist = ['deny pc8 -> pc9 tcp 22,80']\n"
    )
    published = f"tcp://127.0.0.1:{free_port()}"
    rules = {"table": {"default": "allow"}}
    asked = [  # in this order; each row of the table but streams
        ("GET", "/v1/session", "/v1/session", None),
        ("POST", "/v1/login", "/v1/login", {"token": token}),
        ("POST", "/v1/logout", "/v1/logout", None),
        ("GET", "/v1/openapi.json", "/v1/openapi.json", None),
        ("POST", "/v1/tokens", "/v1/tokens", {"name": "x", "role": "read"}),
        ("GET", "/v1/tokens", "/v1/tokens", None),
        ("DELETE", "/v1/tokens/{name}", "/v1/tokens/x", None),
        ("POST", "/v1/qr", "/v1/qr", {"text": "x"}),
        ("GET", "/v1/status", "/v1/status", None),
        ("GET", "/v1/networks", "/v1/networks", None),
        ("GET", "/v1/counters", "/v1/counters", None),
        ("GET", "/v1/ports", "/v1/ports", None),
        ("GET", "/v1/ports/{name}", "/v1/ports/pc1", None),
        ("PATCH", "/v1/ports/{name}", "/v1/ports/pc1", {"isolated": True}),
        ("POST", "/v1/ports/{name}/copy", "/v1/ports/pc1/copy", {"to": "pc3"}),
        ("GET", "/v1/switch", "/v1/switch", None),
        ("PATCH", "/v1/switch", "/v1/switch", {"guard": False}),
        ("POST", "/v1/macs", "/v1/macs", {"name": "pc1", "mac": MAC, "vlan": 7}),
        ("GET", "/v1/macs", "/v1/macs?port=pc1", None),
        ("DELETE", "/v1/macs/{mac}", f"/v1/macs/{MAC}", None),
        ("DELETE", "/v1/macs", "/v1/macs", None),
        ("POST", "/v1/invites", "/v1/invites", {"name": "pc9", "public": ["a.example"]}),
        ("GET", "/v1/members", "/v1/members", None),
        ("GET", "/v1/members/{name}", "/v1/members/pc1", None),
        ("PATCH", "/v1/members/{name}", "/v1/members/pc1", {"routes": ["192.168.7.0/24"]}),
        ("POST", "/v1/members/{name}/disable", "/v1/members/pc1/disable", None),
        ("POST", "/v1/members/{name}/enable", "/v1/members/pc1/enable", None),
        ("POST", "/v1/members/{name}/bar", "/v1/members/pc1/bar", None),
        ("POST", "/v1/recheck", "/v1/recheck", None),
        ("POST", "/v1/rekey", "/v1/rekey", {"grace": 60}),
        ("GET", "/v1/rekey", "/v1/rekey", None),
        ("DELETE", "/v1/rekey", "/v1/rekey?force=true", None),
        ("GET", "/v1/leases", "/v1/leases", None),
        ("POST", "/v1/published", "/v1/published", {"listen": published, "to": "pc1:80"}),
        ("GET", "/v1/published", "/v1/published", None),
        ("DELETE", "/v1/published", f"/v1/published?listen={published}", None),
        ("GET", "/v1/rules", "/v1/rules", None),
        ("PUT", "/v1/rules", "/v1/rules", rules),
        ("POST", "/v1/rules/check", "/v1/rules/check", {**rules, "ask": ["pc1 -> any tcp 22"]}),
        ("POST", "/v1/trace", "/v1/trace", {"frame": "in=x dst=broadcast"}),
        ("GET", "/v1/events", "/v1/events", None),
        ("POST", "/v1/impair", "/v1/impair", {"port": "x", "delay": "1ms"}),
        ("GET", "/v1/config", "/v1/config", None),
        ("GET", "/v1/config/state", "/v1/config/state", None),
        ("GET", "/v1/config/diff", "/v1/config/diff", None),
        ("POST", "/v1/config/save", "/v1/config/save", None),
        ("POST", "/v1/config/reload", "/v1/config/reload", None),
        ("PUT", "/v1/config", "/v1/config", {"dhcp": {"enabled": True}}),
        ("DELETE", "/v1/members/{name}", "/v1/members/pc1", None),
    ]
    elsewhere = {("DELETE", "/v1/leases/{address}")}  # no machine has a lease here
    async with (
        site.serving(api="127.0.0.1:0", config=config) as running,
        running.switch.open_port("x"),
        site.joined("pc1", running),
    ):
        client = Client(running.underlay.api, token)
        await hold(SWITCH, client, asked, elsewhere)
        status, answer, _ = await client("DELETE", "/v1/leases/10.77.0.101")
        assert (status, answer["code"]) == (400, 2), answer


async def test_each_answer_of_a_member_is_what_the_document_says(site, monkeypatch):
    asked = [
        ("GET", "/v1/openapi.json", "/v1/openapi.json", None),
        ("GET", "/v1/status", "/v1/status", None),
        ("GET", "/v1/peers", "/v1/peers", None),
        ("GET", "/v1/events", "/v1/events", None),
        ("GET", "/v1/config", "/v1/config", None),
        ("GET", "/v1/config/state", "/v1/config/state", None),
    ]
    async with a_member(site, monkeypatch, lane="auto", exit_node="gw") as (where, _):
        client = Client(where)
        tables = (await client("GET", "/v1/config"))[1]
        tables["join"]["exit_node"] = "other"
        await hold(MEMBER, client, [*asked, ("PUT", "/v1/config", "/v1/config", tables)])
        assert (await client("GET", "/v1/openapi.json"))[1] == document(MEMBER)
        assert (await client("GET", "/v1/status?network=lab"))[0] == 400  # which the document lacks


async def hold(table, client, asked, elsewhere=frozenset()):
    """Each answer against the document; they are of all rows but streams and what is elsewhere."""
    streams = {(row.method, row.path) for row in table.rows if row.media and not row.answer}
    known = {(row.method, row.path) for row in table.rows}
    assert {(method, path) for method, path, _, _ in asked} == known - streams - elsewhere
    said = document(table)
    components = {**said["components"], "schemas": strict(said["components"]["schemas"])}
    for method, path, where, body in asked:
        status, answer, headers = await client(method, where, body)
        assert status in (200, 204), (where, answer)
        assert "no-store" in headers["Cache-Control"]
        operation = said["paths"][path][method.lower()]
        if status == 204:
            assert "204" in operation["responses"]
            continue
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        found = list(Draft202012Validator({**schema, "components": components}).iter_errors(answer))
        assert not found, (where, [(each.message, each.instance_path) for each in found])


def fuzz(table, where, token, secrets, examples=EXAMPLES):
    """Each operation but streams, with what its schema allows and what it does not."""
    schema = schemathesis.openapi.from_dict(document(table))
    streams = {row.path for row in table.rows if row.media}
    seen = set()
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation, mode in product(operations, schemathesis.GenerationMode):
        if operation.path in streams:
            continue
        seen.add(operation.path)

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            headers = {"Authorization": f"Bearer {token}"}
            answer = case.call(base_url=f"http://{where}", headers=headers, timeout=20)
            assert answer.status_code < 500 or answer.status_code in (503, 504), (
                case.as_curl_command(),
                answer.text,
            )
            assert not any(secret in answer.text for secret in secrets), case.as_curl_command()
            if answer.status_code >= 400:
                assert json.loads(answer.text).keys() == {"error", "code", "problem", "about"}

        with suppress(Unsatisfiable):  # nothing can be wrong with some
            ask()
    return seen


@pytest.mark.filterwarnings("ignore")  # what the tool says of itself
async def test_nothing_that_the_document_allows_breaks_anything(site, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        site.files.ensure()
        token = TokenStore(site.files.tokens).create("fuzzer", Role.ADMIN)
        async with site.serving(api="127.0.0.1:0") as running, running.switch.open_port("x"):
            secrets = [token, site.files.server_key.read_text().strip()]
            seen = await trio.to_thread.run_sync(fuzz, SWITCH, running.underlay.api, token, secrets)
            client = Client(running.underlay.api, token)
            assert (await client("GET", "/v1/status"))[0] == 200
    assert len(seen) >= 25
    assert "api-failed" not in caplog.text


@pytest.mark.filterwarnings("ignore")
async def test_nor_does_anything_that_the_document_of_a_member_allows(site, monkeypatch, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        async with a_member(site, monkeypatch) as (where, member):
            key = member.config.files.key("pc1").read_text().strip()
            secrets = [key, member.config.invite]
            seen = await trio.to_thread.run_sync(fuzz, MEMBER, where, "", secrets, FEW)
            assert (await Client(where)("GET", "/v1/status"))[0] == 200
    assert seen == {row.path for row in MEMBER.rows} - {"/v1/events"}
    assert "api-failed" not in caplog.text


def test_what_commands_ask_for_is_in_the_table():
    rows = (*SWITCH.rows, *MEMBER.rows)
    rows = {(row.method, re.sub(r"{\w+}", "{}", row.path)) for row in rows}
    asked = {(each.method, re.sub(r"{\w+}", "{}", each.path)) for each in VERBS.values()}
    assert asked <= rows
