"""The commands that answer and end: what goes to stdout, what to stderr, which exit code."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys

import attrs
import pytest
import trio

from transport.crypto.identity import load_key_file
from vswitch.addresses import HostPort
from vswitch.cli import main
from vswitch.errors import ExitCode
from vswitch.registry.invite import JoinString


def test_version(capsys):
    assert main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("vswitch ")


@pytest.mark.parametrize("argv", [[], ["invite"]])
def test_wrong_usage(argv, capsys):
    assert main(argv) == ExitCode.USAGE
    assert "usage: vswitch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"), [("stauts", "did you mean 'status'?"), ("x", "see `vswitch help commands`")]
)
def test_a_command_that_does_not_exist_is_one_line(word, said, capsys):
    assert main([word, "--json"]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vswitch: error: unknown command {word}: {said}")


@pytest.mark.parametrize(
    ("argv", "like"),
    [
        (["help"], ["--help"]),
        (["help", "join"], ["join", "--help"]),
        (["help", "join", "all"], ["join", "--help-all"]),
        (["help", "config", "show"], ["config", "--help"]),
        (["help", "config", "show", "all"], ["config", "--help-all"]),
        (["version"], ["--version"]),
        (["-V"], ["--version"]),
    ],
)
def test_other_words_for_help_and_version(argv, like, capsys):
    assert main(argv) == main(like) == ExitCode.OK
    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]


def test_flags_in_front_of_the_command_are_told_where_they_go(capsys):
    for argv in (["--json", "status"], ["--network", "lab", "status"], ["--state=x", "members"]):
        assert main(argv) == ExitCode.USAGE
        flag = argv[0].partition("=")[0]
        assert f"behind the command: vswitch COMMAND {flag} ..." in capsys.readouterr().err


def test_flags_are_not_abbreviated(capsys):
    assert main(["status", "--stat", "x"]) == ExitCode.USAGE
    assert "takes no --stat:" in capsys.readouterr().err


def test_invite_prints_the_string_alone(run, switch, files):
    code, out, err = run("invite", "pc1", "--expires", "10m")
    assert code == ExitCode.OK
    assert out.count("\n") == 1
    join = JoinString.parse_untrusted(out)
    assert join.servers == (HostPort("switch.example.org", 7000),)
    assert join.server_key == load_key_file(files.server_key).public
    invite = switch.invite(join.token_id)
    assert (invite.name, invite.psk) == ("pc1", join.psk)
    assert invite.expires - invite.created == 600
    assert join.name == "pc1"
    assert "vswitch join STRING\n" in err
    assert out.strip() not in err


def leads(done):
    return [each.text() for each in JoinString.parse_untrusted(done[1]).servers]


def test_where_invites_lead(run, switch, monkeypatch):
    monkeypatch.setenv("VSWITCH_PUBLIC", "other.example.org:9")
    assert leads(run("invite", "a")) == ["other.example.org:9"]
    assert leads(run("invite", "a", "--public", "[2001:db8::1]")) == ["[2001:db8::1]:7000"]
    two = run("invite", "a", "--public", "10.0.0.1", "--public", "x.example:9")
    assert leads(two) == ["10.0.0.1:7000", "x.example:9"]


def test_where_invites_lead_over_https(run, switch):
    def https(*options):
        return JoinString.parse_untrusted(run("invite", "a", *options)[1]).https

    assert https() == ()
    places = ("--public", "[2001:db8::1]:1", "--public", "x.example:9", "--public", "x.example:8")
    served = attrs.evolve(switch.served(), https="https://:8443/lan")
    switch.record_served(served)
    assert https() == ("https://switch.example.org:8443/lan",)
    assert https(*places) == ("https://[2001:db8::1]:8443/lan", "https://x.example:8443/lan")
    switch.record_served(attrs.evolve(served, public=(), https="https://:443"))
    assert https("--public", "192.0.2.1") == ("https://192.0.2.1",)
    switch.record_served(attrs.evolve(served, https="https://www.example.org/lan"))
    assert https(*places) == ("https://www.example.org/lan",)


def test_an_invite_to_an_unknown_place_is_refused(run, switch):
    served = switch.served()
    switch.record_served(attrs.evolve(served, public=()))
    code, out, err = run("invite", "pc1")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "give --public HOST[:PORT]" in err


def test_an_invite_without_a_switch(run):
    code, _, err = run("invite", "pc1")
    assert code == ExitCode.NOT_FOUND
    assert "start `vswitch serve`" in err


def test_an_invite_for_a_member_is_refused(run, switch):
    switch.enrol_local(bytes(32), "pc1", 0.0)
    code, out, err = run("invite", "pc1")
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "vswitch revoke pc1" in err
    assert "vswitch invite pc1 --again" in err
    assert run("invite", "pc1", "--again")[0] == ExitCode.OK
    assert run("invite", "pc2", "--again")[0] == ExitCode.NOT_FOUND


def test_an_invite_needs_no_private_key(run, switch, files):
    key = load_key_file(files.server_key).public
    files.server_key.unlink()  # as root beside a service, whose key file is for its user alone
    code, out, _ = run("invite", "pc1")
    assert code == ExitCode.OK
    assert JoinString.parse_untrusted(out).server_key == key


def test_an_invite_of_a_switch_whose_key_is_not_noted(run, switch):
    switch.record_served(attrs.evolve(switch.served(), key=None))
    code, out, err = run("invite", "pc1")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "start `vswitch serve`" in err


def test_genkey_into_a_file(tmp_path, capsys):
    path = tmp_path / "k"
    assert main(["genkey", str(path)]) == ExitCode.OK
    out = capsys.readouterr().out
    assert out == load_key_file(path).public.text() + "\n"
    assert main(["genkey", str(path)]) == ExitCode.USAGE
    assert "not overwritten" in capsys.readouterr().err
    assert load_key_file(path).public.text() == out.strip()


def test_genkey_into_a_pipe_but_not_onto_a_terminal(tmp_path, capsys, monkeypatch):
    assert main(["genkey"]) == ExitCode.OK
    path = tmp_path / "k"
    path.write_text(capsys.readouterr().out)
    path.chmod(0o600)
    assert load_key_file(path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["genkey"]) == ExitCode.USAGE
    assert capsys.readouterr().out == ""


def test_an_option_that_a_command_does_not_take_is_named_with_the_command(capsys):
    assert main(["status", "--jsno"]) == ExitCode.USAGE
    assert "status takes no --jsno: see `vswitch help status all`" in capsys.readouterr().err


def test_pubkey_of_a_file_and_of_standard_input(tmp_path, capsys, monkeypatch):
    path = tmp_path / "k"
    assert main(["genkey", str(path)]) == ExitCode.OK
    public = capsys.readouterr().out
    assert main(["pubkey", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == public
    monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text()))
    assert main(["pubkey", "--fingerprint"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == load_key_file(path).public.fingerprint()
    for text in ("", "x", "AAAA", "é"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert main(["pubkey"]) == ExitCode.USAGE
        assert "no private key" in capsys.readouterr().err
    path.chmod(0o644)
    assert main(["pubkey", str(path)]) == ExitCode.USAGE


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o600, False)])
@pytest.mark.parametrize("words", [["genkey"], ["token", "create", "x", "--state"]])
def test_a_secret_into_a_file_that_others_read_is_warned_of(tmp_path, mode, warned, words):
    path = tmp_path / "k"
    path.touch(mode)
    path.chmod(mode)
    with path.open("wb") as out:
        done = vswitch(*words, *([str(tmp_path / "s")] if "--state" in words else []), stdout=out)
    assert (done.returncode, "others can read" in done.stderr) == (ExitCode.OK, warned)


def test_bench_with_a_name_that_is_not_known_says_so(capsys, monkeypatch):
    async def nowhere(*_):
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", nowhere)
    assert main(["bench", "pc2", "--seconds", "2s"]) == ExitCode.NOT_FOUND
    assert "pc2 is not known here: Name or service not known" in capsys.readouterr().err


def vswitch(*args, **more):
    return subprocess.run(
        [sys.executable, "-m", "vswitch", *args], stderr=subprocess.PIPE, text=True, **more
    )


def test_a_reader_that_leaves_is_no_error_message():
    read, write = os.pipe()
    os.close(read)
    done = vswitch("genkey", stdout=write)
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    # argparse takes a lost help text for success when stdout is not buffered; no trace either way.
    assert vswitch("--help", stdout=write).stderr == ""
    os.close(write)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is missing")
def test_a_full_disk_behind_stdout_is_told():
    with open("/dev/full", "w") as full:
        done = vswitch("genkey", stdout=full)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == "vswitch: error: cannot write the answer: No space left on device\n"
