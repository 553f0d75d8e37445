"""Completion of the names that are there now: what a shell is told, and what bash makes of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from transport.crypto.identity import PrivateKey
from vswitch.cli import command_line, completion, main
from vswitch.cli.completion import NAMES, tell_names
from vswitch.errors import ExitCode, NotReachable
from vswitch.management import client

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The completions for bash, as a wheel has them."""
    spec = importlib.util.spec_from_file_location("hook", ROOT / "packaging/build_hook.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    path = tmp_path_factory.mktemp("bash") / "vswitch"
    made = hook.generated(command_line(), "1.2.3")
    path.write_text(made["share/bash-completion/completions/vswitch"])
    return path


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers for the last of some words. `program` is what it finds as vswitch."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def ask(*words, program=f'exec {sys.executable} -m vswitch "$@"'):
        (folder / "vswitch").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "vswitch").chmod(0o755)
        asked = f"""source {script}
            COMP_WORDS=(vswitch "$@"); COMP_CWORD=$#
            _vswitch 2>/dev/null; printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(
            ["bash", "-c", asked, "bash", *words],
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    return ask


async def test_names_of_the_running_switch_and_of_its_members(site, complete):
    async with site.serving() as running, site.joined("pc1", running):
        with site.registry() as registry:
            registry.enrol_local(PrivateKey.generate().public.raw, "away", time.time())

        async def offers(expected, state, *words):
            # Whoever types waits no longer than a second for names, which may be short here.
            argv = (words[0], "--state", str(state), *words[1:])
            with trio.fail_after(60):
                while await trio.to_thread.run_sync(lambda: complete(*argv)) != expected:
                    pass

        switch, member = site.files.path, site.path / "pc1"
        await offers(["pc1"], switch, "port", "show", "")
        await offers(["away", "pc1"], switch, "revoke", "")
        await offers(["away"], switch, "rename", "a")
        await offers(["isolated="], switch, "port", "set", "pc1", "iso")
        await offers(["default"], switch, "port", "show", "--network", "")
        await offers(["pc1"], member, "ping", "p")
        await offers(["pc1"], member, "status", "")
        await offers(["pc1"], member, "config", "show", "--join", "")
        await offers([], member, "port", "show", "")


@pytest.mark.parametrize("kind", NAMES)
def test_where_nothing_runs_nothing_is_said(kind, tmp_path, capsys):
    assert main(["completion", "names", kind, "vswitch", "--state", str(tmp_path)]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert (out.split(), err) == (["default"] if kind == "networks" else [], "")


def test_a_name_that_a_shell_could_take_for_more_is_left_out(tmp_path, capsys):
    members = tmp_path / "members"
    members.mkdir()
    for name in ("pc1", "$(reboot)", "a b", "-x", "a;b"):
        (members / f"{name}.toml").touch()
    # As bash splits `--state=...`.
    assert main(["completion", "names", "joins", "--state", "=", str(tmp_path)]) == ExitCode.OK
    assert capsys.readouterr().out == "pc1\n"


def test_bash_evaluates_nothing_of_a_name(complete, tmp_path):
    program = f"echo '$(touch {tmp_path}/x)'"
    assert "".join(complete("revoke", "", program=program)) == f"$(touch{tmp_path}/x)"
    assert not (tmp_path / "x").exists()


def test_the_value_of_a_setting_is_not_completed_with_keys(complete):
    assert "mac_freeze=" in complete("switch", "set", "m")
    assert complete("switch", "set", "guard", "=", "m") == []


@pytest.mark.parametrize(
    ("words", "offered"),  # `:` and `=` are words of their own in bash
    [
        (["port", "show", "tcp"], ["tcp:192.0.2.9:1", "tcp:192.0.2.9:2"]),
        (["port", "show", "tcp", ":", "192.0.2.9"], ["192.0.2.9:1", "192.0.2.9:2"]),
        (["port", "show", "tcp", ":", "192.0.2.9", ":"], ["1", "2"]),
        (["port", "set", "tcp", ":", "192.0.2.9", ":", "1", "iso"], ["isolated="]),
        (["port", "show", "--state", "=", "/run/x", "tcp"], ["tcp:192.0.2.9:1", "tcp:192.0.2.9:2"]),
        (["join", "--lane", "="], ["kcp", "datagram", "auto"]),
        (["join", "--lane", "=", "d"], ["datagram"]),
        (["serve", "--listen", ":", "7450", "--local"], ["--local-port"]),
        ([":"], []),
    ],
)
def test_bash_takes_colons_and_flags_with_values_apart(complete, words, offered):
    program = "printf '%s\\n' tcp:192.0.2.9:1 tcp:192.0.2.9:2"
    assert complete(*words, program=program) == offered


@pytest.mark.parametrize("state", ["~nobody-of-that-name/x", "x" * 5000, "/dev/null", "a\nb"])
def test_a_path_that_is_none_has_no_names(state, capsys):
    words = [",".join(NAMES), "vswitch"]
    assert tell_names(words, {"VSWITCH_STATE": state}) == ExitCode.OK
    out, err = capsys.readouterr()
    assert (set(out.split()) <= {"default"}, err) == (True, "")


def test_many_that_do_not_answer_keep_nobody_waiting_for_longer_than_one(tmp_path, monkeypatch):
    members = tmp_path / "members"
    members.mkdir()
    for number in range(5):
        (members / f"pc{number}.sock").touch()
    waits = []

    def silent(path, verb, timeout):
        waits.append(max(timeout, 0))
        time.sleep(waits[-1])
        raise NotReachable("no answer")

    monkeypatch.setattr(client, "request", silent)
    monkeypatch.setattr(completion, "_PATIENCE", 0.1)
    assert tell_names(["members", "vswitch", "--state", str(tmp_path)]) == ExitCode.OK
    assert (len(waits), sum(waits) <= waits[0]) == (6, True)


def test_what_takes_names_is_there():
    (commands,) = (each for each in command_line()._actions if each.dest == "command")
    there = {
        f"{name}.{action.dest}"
        for name, parser in commands.choices.items()
        for action in parser._actions
    }
    said = {place for places in NAMES.values() for place in places.split()}
    assert said - there == {"*.network"}
