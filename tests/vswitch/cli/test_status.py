"""members, revoke and status: the registry and what runs, put together."""

from __future__ import annotations

import json
import socket
import threading

import attrs
import pytest
import trio

from tests.vswitch.control import verbs_api
from transport.crypto.identity import PrivateKey, PublicKey
from vswitch.api.socket import serve_control
from vswitch.config.options import ServeConfig
from vswitch.errors import ExitCode, NotFound
from vswitch.management.client import request
from vswitch.management.status import (
    FaultStatus,
    ForeignStatus,
    JoinStatus,
    PortStatus,
    SwitchStatus,
    to_json,
)
from vswitch.registry.invite import JoinString


@pytest.fixture
def answering():
    """Start control sockets in a thread, as running programs have them."""
    stops = []

    def start(path, handlers):
        started = threading.Event()
        scope = trio.CancelScope()
        token = []

        async def serve():
            with scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve_control, path, verbs_api(handlers))
                    token.append(trio.lowlevel.current_trio_token())
                    started.set()

        thread = threading.Thread(target=trio.run, args=(serve,))
        thread.start()
        assert started.wait(10)
        stops.append((token[0], scope, thread))

    yield start
    for token, scope, thread in stops:
        token.run_sync_soon(scope.cancel)
        thread.join()


def switch_status(*ports):
    return SwitchStatus(
        version="0.1.0",
        uptime_s=5.0,
        listen="[::]:7000",
        subnet="10.77.0.0/24",
        mtu=1500,
        members=1,
        ports=list(ports),
    )


def says(answer):
    async def handler(_args):
        return answer

    return handler


def always(status):
    async def handler(_args):
        return to_json(status)

    return {"status": handler}


def test_members_without_and_with_the_running_switch(run, switch, files, answering):
    key = PrivateKey.generate().public
    switch.enrol_local(key.raw, "pc1", 0.0)
    switch.enrol_local(bytes(32), "pc2", 0.0)
    switch.lease(key.raw, "auto", ServeConfig().subnet)
    code, out, _ = run("members", "--json")
    data = json.loads(out)
    assert (code, data["schema"]) == (ExitCode.OK, 1)
    first = data["members"][0]
    assert (first["name"], first["key"], first["address"]) == ("pc1", key.text(), "10.77.0.2")
    assert first["connected"] is None
    port = PortStatus(port=1, name="pc1", state="up", via="udp:[::1]:5")
    answering(files.control_socket, always(switch_status(port)))
    members = json.loads(run("members", "--json")[1])["members"]
    assert [(m["connected"], m["via"]) for m in members] == [(True, "udp:[::1]:5"), (False, None)]
    out = run("members")[1]
    assert "connected udp:[::1]:5" in out
    assert key.fingerprint() in out


def test_members_lists_invites_that_can_still_be_used(run, switch):
    assert "INVITED" not in run("members")[1]
    for name in ("pc1", "pc2"):
        run("invite", name)
    run("revoke", "pc2")
    switch.enrol_local(bytes(32), "pc3", 0.0)
    run("invite", "pc3", "--again", "--expires", "1h")
    data = json.loads(run("members", "--json")[1])
    assert [(each["name"], each["again"]) for each in data["invites"]] == [
        ("pc3", True),
        ("pc1", False),
    ]
    out = run("members")[1]
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["INVITED", "pc3", "pc1"]


def test_members_purge_forgets_who_was_revoked(run, switch):
    for number, name in enumerate(("pc1", "pc2")):
        switch.enrol_local(bytes([number]) * 32, name, 0.0)
    run("revoke", "pc1")
    assert "revoked 2" in run("members")[1]
    code, out, err = run("members", "--purge")
    assert (code, err.splitlines()[0]) == (ExitCode.OK, "vswitch: 1 revoked members forgotten")
    assert "pc1" not in out
    assert "pc2" in out


def test_members_are_forgotten_by_their_switch_alone(run, files, answering):
    answering(files.join_socket("pc1"), {"peers": says({"members": []})})
    assert run("members")[0] == ExitCode.OK
    code, out, err = run("members", "--purge")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "--purge is for the host of the switch" in err


def test_tokens_are_objects_for_programs(run):
    told = json.loads(run("token", "create", "me", "--role", "operate", "--json")[1])
    assert told.pop("token").startswith("vsw_")
    assert told == {"schema": 1, "name": "me", "role": "operate"}
    code, out, err = run("token", "revoke", "me", "--json")
    assert (code, json.loads(out), err) == (ExitCode.OK, {"schema": 1, "name": "me"}, "")


def test_keys_of_a_switch_are_an_object_for_programs(run, files, answering):
    answering(files.control_socket, {"rekey-status": says({"key": "6zho4plq"})})
    told = json.loads(run("rekey", "--status", "--json")[1])
    assert told == {"schema": 1, "key": "6zho4plq"}


def test_there_is_nothing_to_measure_where_nobody_has_joined(run):
    code, out, err = run("netcheck")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "give a join string, or HOST:PORT" in err


def test_members_without_a_registry(run):
    code, _, err = run("members")
    assert code == ExitCode.NOT_FOUND
    assert "has a switch run" in err


def test_revoke_writes_it_down_and_tells_the_switch(run, switch, files, answering):
    told = []

    async def revoked(args):
        told.append(args)
        return {}

    answering(files.control_socket, {"revoked": revoked})
    key = PublicKey(bytes(32))
    switch.enrol_local(key.raw, "pc1", 0.0)
    code, out, err = run("revoke", "pc1")
    assert (code, err) == (ExitCode.OK, "")
    assert "revoked pc1" in out
    assert told == [{"name": "pc1", "key": key.text()}]
    assert switch.look_up(key.raw).revoked is not None


def test_revoke_while_the_switch_is_down(run, switch):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, _, err = run("revoke", "pc1")
    assert code == ExitCode.OK
    assert "no switch answers here" in err
    assert switch.named("pc1") is None


def test_revoke_cancels_an_invite(run, switch):
    token = JoinString.parse_untrusted(run("invite", "pc1")[1]).token_id
    code, out, _ = run("revoke", "pc1")
    assert code == ExitCode.OK
    assert "cancelled" in out
    assert switch.invite(token) is None


def test_revoke_of_nobody(run, switch):
    code, _, err = run("revoke", "pc9")
    assert code == ExitCode.NOT_FOUND
    assert "no member is named pc9" in err


def test_status_of_nothing(run):
    code, out, err = run("status")
    assert (code, out) == (ExitCode.NOT_REACHABLE, "")
    assert "nothing runs in" in err


def test_status_of_a_switch_and_a_join(run, files, answering):
    port = PortStatus(port=1, name="pc1", state="up", rx_bytes=1234)
    join = JoinStatus(name="pc2", state="up", server="a:1", dev="vsw0", address="10.0.0.2/24")
    answering(files.control_socket, always(switch_status(port)))
    answering(files.join_socket("pc2"), always(join))
    data = json.loads(run("status", "--json")[1])
    assert data["schema"] == 1
    assert data["switch"]["ports"][0]["rx_bytes"] == 1234
    assert data["joins"][0]["address"] == "10.0.0.2/24"
    out = run("status")[1]
    assert "switch 10.77.0.0/24" in out
    assert "PORT" in out
    assert "vsw0" in out
    data = json.loads(run("status", "pc1", "--json")[1])
    assert ([p["name"] for p in data["ports"]], data["joins"]) == (["pc1"], [])
    assert "switch 10.77" not in run("status", "pc2")[1]
    code, _, err = run("status", "pc3")
    assert code == ExitCode.NOT_FOUND
    assert "named pc3" in err


def test_status_of_a_join_alone(run, files, answering):
    answering(files.join_socket("pc2"), always(JoinStatus(name="pc2", state="up", server="a:1")))
    code, out, _ = run("status", "--json")
    assert code == ExitCode.OK
    assert json.loads(out)["switch"] is None


def test_an_error_of_the_other_side_keeps_its_exit_code(run, files, answering):
    async def refuse(_args):
        raise NotFound("not any more")

    answering(files.control_socket, {"status": refuse})
    code, _, err = run("status")
    assert code == ExitCode.NOT_FOUND
    assert "vswitch: error: not any more" in err


@pytest.fixture
def silent(files, monkeypatch):
    """Something listens on the switch's control socket, and says nothing."""
    for command in ("recheck", "status", "members"):
        monkeypatch.setattr(
            f"vswitch.cli.{command}.request",
            lambda path, verb, timeout=0.0, **args: request(path, verb, timeout=0.01, **args),
        )
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(files.control_socket))
        mute.listen()
        yield


def test_a_switch_that_does_not_answer_is_not_taken_for_one_that_does_not_run(run, switch, silent):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, _, err = run("status")
    assert code == ExitCode.NOT_REACHABLE
    assert "does not answer" in err
    assert "nothing runs" not in err
    code, out, err = run("members")
    assert code == ExitCode.OK
    assert "pc1" in out
    assert "does not answer" in err


def test_revoke_says_when_nobody_has_confirmed_it(run, switch, silent):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, out, err = run("revoke", "pc1")
    assert code == ExitCode.NOT_REACHABLE
    assert "revoked pc1" in out
    assert "has not said that it has seen it" in err
    assert switch.look_up(bytes(32)).revoked is not None


def test_status_names_the_last_fault(run, files, answering):
    faults = [FaultStatus(ended="Storms", port="", error="KeyError", reference="0badcafe")]
    status = attrs.evolve(switch_status(), faults=faults)
    answering(files.control_socket, always(status))
    assert "a fault of vswitch has ended Storms (KeyError)" in run("status")[1]


def test_status_says_which_features_and_listeners_have_ended(run, files, answering):
    faults = [FaultStatus(ended="Multicast", port="", error="KeyError", reference="0badcafe")]
    foreign = [
        ForeignStatus(name="lab", kind="udp", listen=":1", ended="00c0ffee"),
        ForeignStatus(name="well", kind="udp", listen=":2"),
    ]
    status = attrs.evolve(switch_status(), faults=faults, ended=faults, foreign=foreign)
    answering(files.control_socket, always(status))
    said = run("status")[1]
    assert "the feature or service Multicast has ended by a fault of vswitch (KeyError)" in said
    assert "the foreign listener lab has ended by a fault of vswitch" in said
    assert said.count("0badcafe") == said.count("00c0ffee") == 1
    assert "well has ended" not in said


def test_rename_takes_the_settings_along(run, switch, files, answering):
    told = []

    async def copy(args):
        told.append(("port-copy", args))
        return {"settings": ["isolated", "vlan"], "live": ["vlan"]}

    async def revoked(args):
        told.append(("revoked", args))
        return {}

    answering(files.control_socket, {"port-copy": copy, "revoked": revoked})
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, out, err = run("rename", "pc1", "office")
    assert (code, out) == (ExitCode.OK, "pc1 is office now\n")
    assert "isolated, vlan of pc1 holds for office, too; until the switch ends: vlan (" in err
    assert told == [("port-copy", {"name": "pc1", "to": "office"}), ("revoked", {})]
    assert switch.named("office") is not None
    assert run("rename", "pc1", "x")[0] == ExitCode.NOT_FOUND
    assert run("rename", "office", "X Y")[0] == ExitCode.USAGE
    code, _, err = run("rename", "office", "office")
    assert (code, "that is its name already" in err) == (ExitCode.USAGE, True)
    assert run("rename", "office", "local")[0] == ExitCode.USAGE


def test_disable_and_enable(run, switch):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, out, err = run("disable", "pc1")
    assert (code, out) == (ExitCode.OK, "pc1 is disabled\n")
    assert "no switch answers here" in err
    assert run("members")[1].splitlines()[1].endswith("disabled")
    assert run("enable", "pc1") == (ExitCode.OK, "pc1 is enabled\n", "")
    assert "disabled" not in run("members")[1]
    assert run("disable", "pc9")[0] == run("enable", "pc9")[0] == ExitCode.NOT_FOUND


def test_routes_behind_a_member_are_approved_and_shown(run, switch, files, answering):
    told = []

    async def revoked(args):
        told.append(args)
        return {}

    answering(files.control_socket, {"revoked": revoked})
    for number, name in enumerate(("pc1", "pc2")):
        switch.enrol_local(bytes([number]) * 32, name, 0.0)
    assert run("member", "show", "pc1") == (ExitCode.OK, "pc1: routes = none\n", "")
    code, out, err = run("member", "set", "pc1", "routes=192.168.1.0/24,exit")
    assert (code, err) == (ExitCode.OK, "")
    assert out == "pc1: routes = 192.168.1.0/24, 0.0.0.0/0, ::/0\n"
    assert told == [{}]
    shown = json.loads(run("member", "show", "pc1", "--json")[1])
    assert shown["routes"] == ["192.168.1.0/24", "0.0.0.0/0", "::/0"]
    for change, why in (
        ("routes=192.168.0.0/16", "overlaps 192.168.1.0/24 of pc1"),
        ("routes=192.168.1.1/24", "no host bits set"),
        ("routes=10.0.0.0/1", "no host bits set"),
        ("routes=0.0.0.0/1", "`exit`"),
        ("routes=fe80::/64", "no route leads to fe80::/10"),
        ("route=exit", "write routes="),
        ("exit", "write routes="),
    ):
        code, _, err = run("member", "set", "pc2", change)
        assert code == ExitCode.USAGE
        assert why in err, err
    assert run("member", "set", "pc2")[0] == ExitCode.USAGE
    assert run("member", "show", "pc2", "routes=none")[0] == ExitCode.USAGE
    assert run("member", "show", "pc9")[0] == ExitCode.NOT_FOUND
    assert run("member", "set", "pc9", "routes=none")[0] == ExitCode.NOT_FOUND
    assert run("member", "set", "pc1", "routes=none")[1] == "pc1: routes = none\n"
