"""serve and join: their options, what ends them, and what every error leads to."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import types
from collections import Counter
from functools import partial

import pytest
import trio
import trio.testing

from tests.vswitch.web.test_certificates import make
from transport.crypto.identity import PublicKey
from transport.errors import KeyFileError
from vswitch.addresses import HostPort
from vswitch.cli import main
from vswitch.cli.common import exit_code_of
from vswitch.devices.netlink import Link
from vswitch.errors import (
    ConfigError,
    ExitCode,
    NotReachable,
    PrivilegeError,
    TimedOut,
    VswitchError,
)
from vswitch.members.protocol import ByeCode
from vswitch.registry.invite import JoinString
from vswitch.registry.rules import EnrolRefused


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    for name in list(os.environ):
        if name.startswith("VSWITCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("vswitch.cli.serve.log_as", lambda *_args: None)
    monkeypatch.setattr("vswitch.cli.join.log_as", lambda *_args: None)


@pytest.fixture
def services(monkeypatch):
    """Stand-ins for `serve` and `join`: they note their configuration and run `body`."""
    seen = types.SimpleNamespace(configs=[], body=None)

    async def service(config, *, given=None, task_status=trio.TASK_STATUS_IGNORED, on_state=str):
        seen.configs.append(config)
        task_status.started()
        if seen.body is not None:
            await seen.body()

    monkeypatch.setitem(sys.modules, "vswitch.serving.server", types.SimpleNamespace(serve=service))
    monkeypatch.setitem(sys.modules, "vswitch.joining.member", types.SimpleNamespace(join=service))
    return seen


def test_serve_gets_its_options(services, tmp_path):
    state = tmp_path / "s"
    file = tmp_path / "f.toml"
    file.write_text("[serve]\nmtu = 9000\n")
    argv = ["serve", "--state", str(state), "--listen", ":5", "--config", str(file)]
    assert main(argv) == ExitCode.OK
    (config,) = services.configs
    assert (config.listen, config.mtu) == ((HostPort("::", 5),), 9000)
    assert config.files.control_socket == state / "control.sock"
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("answer", "lines"), [(False, 1), (None, 0), (True, 0)])
def test_a_slow_interpreter_is_told_once(services, tmp_path, monkeypatch, caplog, answer, lines):
    monkeypatch.setattr("vswitch.runtime.optimised", lambda: answer)
    with caplog.at_level("INFO"):
        assert main(["serve", "--state", str(tmp_path)]) == ExitCode.OK
    told = [text for text in caplog.messages if text.startswith("slow-python")]
    assert told == [f"slow-python executable={sys.executable}"] * lines


def test_join_gets_its_options(services, tmp_path, monkeypatch):
    monkeypatch.setenv("VSWITCH_DEV", "tap9")
    argv = ["join", "vsw1:x", "--name", "pc1", "--state", str(tmp_path), "--once"]
    assert main([*argv, "--address", "none", "--bind", "eth0"]) == ExitCode.OK
    (config,) = services.configs
    assert (config.invite, config.name, config.dev) == ("vsw1:x", "pc1", "tap9")
    assert (config.once, config.address, config.bind) == (True, "none", "eth0")


def test_join_takes_its_name_from_the_string(services, tmp_path, monkeypatch, capsys):
    key = PublicKey(bytes(range(32)))
    text = JoinString.new(key, HostPort("192.0.2.1", 7450), name="pc7").encode()
    state = ["--state", str(tmp_path / "s")]
    assert main(["join", text, *state]) == ExitCode.OK
    assert main(["join", text, "--name", "pc8", *state]) == ExitCode.OK
    monkeypatch.setenv("VSWITCH_NAME", "pc9")
    assert main(["join", text, *state]) == ExitCode.OK
    assert [config.name for config in services.configs] == ["pc7", "pc8", "pc9"]
    monkeypatch.delenv("VSWITCH_NAME")
    old = JoinString.new(key, HostPort("192.0.2.1", 7450)).encode()
    assert main(["join", old, *state]) == ExitCode.USAGE
    assert "name is missing" in capsys.readouterr().err


def test_join_reads_the_string_from_standard_input(services, tmp_path, monkeypatch, capsys):
    argv = ["join", "-", "--name", "pc1", "--state", str(tmp_path)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("  vsw1:x\nmore\n"))
    assert main(argv) == ExitCode.OK
    assert services.configs[0].invite == "vsw1:x"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(argv) == ExitCode.USAGE
    assert "no join string on standard input" in capsys.readouterr().err


def test_the_string_is_not_in_any_error(services, tmp_path, capsys):
    argv = ["join", "vsw1:token", "--name", "pc1", "--state", str(tmp_path), "--mtu", "1"]
    assert main(argv) == ExitCode.USAGE
    assert "token" not in capsys.readouterr().err


ERRORS = [
    (VswitchError("m"), ExitCode.FAILED),
    (ConfigError("m"), ExitCode.USAGE),
    (KeyFileError("m"), ExitCode.USAGE),
    (NotReachable("m"), ExitCode.NOT_REACHABLE),
    (EnrolRefused(ByeCode.NAME_TAKEN, "m"), ExitCode.REFUSED),
    (TimedOut("m"), ExitCode.TIMEOUT),
    (PrivilegeError("m"), ExitCode.PRIVILEGE),
    (ExceptionGroup("g", [ExceptionGroup("g", [PrivilegeError("m")])]), ExitCode.PRIVILEGE),
    (ExceptionGroup("g", [NotReachable("m"), NotReachable("m")]), ExitCode.NOT_REACHABLE),
]


FOR_DOCTOR = (ExitCode.NOT_REACHABLE, ExitCode.TIMEOUT, ExitCode.PRIVILEGE)


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_errors_lead_to_one_line_and_their_exit_code(services, tmp_path, capsys, error, code):
    async def fail():
        raise error

    services.body = fail
    assert main(["serve", "--state", str(tmp_path)]) == code
    *hint, said = capsys.readouterr().err.splitlines()
    assert said == "vswitch: error: m"
    assert ["vswitch doctor" in each for each in hint] == [True] * (code in FOR_DOCTOR)


def test_a_fault_of_the_program_shows_its_traceback(services, tmp_path, capsys):
    async def fail():
        raise ZeroDivisionError("oh")

    services.body = fail
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "ZeroDivisionError: oh" in err
    assert "please report" in err


def test_an_os_error_of_the_program_is_not_taken_for_a_full_stdout(services, tmp_path, capsys):
    async def fail():
        raise OSError(5, "Input/output error")

    services.body = fail
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.FAILED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("wrapped", [False, True])
def test_too_few_files_are_told_with_what_to_do(services, tmp_path, capsys, wrapped):
    async def fail():
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError as error:
            if not wrapped:
                raise
            raise ExceptionGroup("g", [RuntimeError(), trio.TrioInternalError()]) from error

    services.body = fail
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "too many files are open: raise the limit of this process (`ulimit -n 1024`" in err


def test_a_program_without_files_to_open_says_so(tmp_path):
    """From the first import on, wherever it is that they run out."""
    said = ["exec", "--name", "t1", "--state", str(tmp_path), "vsw2:x", "--", "true"]
    for files in (6, 12, 20):
        argv = [sys.executable, "-m", "vswitch", *said]
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files))
        done = subprocess.run(argv, preexec_fn=limit, capture_output=True, text=True, check=False)
        assert done.returncode in (ExitCode.FAILED, ExitCode.USAGE, ExitCode.NOT_FOUND)
        assert "Traceback" not in done.stderr
        if done.returncode == ExitCode.FAILED:
            assert "raise the limit of this process" in done.stderr


def test_ctrl_c_before_anything_runs(capsys):
    assert exit_code_of(KeyboardInterrupt()) == ExitCode.INTERRUPTED
    assert exit_code_of(BaseExceptionGroup("g", [KeyboardInterrupt()])) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.OK),
        (signal.SIGQUIT, ExitCode.OK),
    ],
)
def test_signals_stop_a_service_after_its_cleanup(services, tmp_path, number, code):
    done = Counter()

    async def serve():
        # SIGHUP first: it must not end anything.
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), number)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                done["cleanup"] += 1

    services.body = serve
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["join", "--name", "a", "--state", str(tmp_path)]) == code
    assert done["cleanup"] == 1
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_hang_up_alone_ends_nothing(services, tmp_path):
    passed = []

    async def serve():
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        passed.append(True)

    services.body = serve
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.OK
    assert passed == [True]


def test_an_error_while_stopping_wins_over_the_signal(services, tmp_path, capsys):
    async def serve():
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await trio.sleep_forever()
        finally:
            raise VswitchError("the disk is full")

    services.body = serve
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.FAILED
    assert capsys.readouterr().err == "vswitch: error: the disk is full\n"


def test_a_second_signal_ends_a_service_that_hangs_while_it_stops(services, tmp_path):
    async def serve():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                os.kill(os.getpid(), signal.SIGINT)
                await trio.sleep_forever()

    services.body = serve
    assert main(["serve", "--state", str(tmp_path)]) == ExitCode.INTERRUPTED


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager, and what it has been told so far."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def told():
            said = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(sock.recv(100).decode())
            return said

        told.socket = sock
        yield told


@pytest.mark.parametrize("argv", [["serve"], ["join", "--name", "pc1"]])
def test_a_service_manager_is_told_of_start_and_stop(services, manager, tmp_path, argv):
    async def body():
        await trio.testing.wait_all_tasks_blocked()  # the state at the start
        assert "READY=1" in manager()
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    services.body = body
    assert main([*argv, "--state", str(tmp_path / "s")]) == ExitCode.OK
    assert services.configs
    assert manager() == ["STOPPING=1"]


def test_a_member_without_a_switch_counts_as_started_in_the_end(
    services, manager, tmp_path, monkeypatch
):
    async def join(config, *, task_status, on_state):
        assert manager() == ["STATUS=pc1: connecting"]
        await trio.lowlevel.wait_readable(manager.socket)
        assert manager() == ["READY=1"]
        on_state("not connected: \x1b[31m")
        assert manager() == ["STATUS=not connected: ?[31m"]

    monkeypatch.setattr("vswitch.cli.join._PATIENCE", 0.05)
    monkeypatch.setitem(sys.modules, "vswitch.joining.member", types.SimpleNamespace(join=join))
    assert main(["join", "--name", "pc1", "--state", str(tmp_path / "s")]) == ExitCode.OK


def test_a_manager_that_is_gone_is_a_line_in_the_log(services, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", "@vswitch-nobody-listens-here")
    assert main(["serve", "--state", str(tmp_path / "s")]) == ExitCode.OK
    assert "notify-failed path=@vswitch-nobody-listens-here" in caplog.text


def test_errors_have_a_priority_in_the_journal(services, tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        monkeypatch.setattr(sys, "stderr", stream)
        services.body = refuse
        assert main(["serve", "--state", str(tmp_path / "s")]) == ExitCode.REFUSED
        stream.seek(0)
        assert stream.read() == "<3>vswitch: error: no\n<3>vswitch: error: not at all\n"


async def refuse():
    raise EnrolRefused(ByeCode.NAME_TAKEN, "no\nnot at all")


CHECKED = """
[serve]
mtuu = 1500
[switch]
gard = true
[port.a]
vlan = 9999
[port.b]
isolated = "perhaps"
[[foreign]]
name = "lab"

[https]
listn = ":443"
prefix = 7
"""


def test_check_says_where_the_https_side_is_wrong(services, tmp_path, capsys):
    file = tmp_path / "f.toml"
    argv = ["serve", "--check", "--config", str(file), "--state", str(tmp_path / "s")]
    certificate, key = make(tmp_path)
    cases = {
        f"certificate = '{certificate}'\n": "https.certificate: give https.key (--https-key), too",
        f"certificate = '{key}'\nkey = '{key}'\n": f"certificate {key} with key {key}",
        f"certificate = '{certificate}'\nkey = '{tmp_path}/none'\n": "No such file",
        f"certificate = '{certificate}'\nkey = '{key}'\n": "nothing is wrong",
    }
    for text, part in cases.items():
        file.write_text(f'[https]\nlisten = ":443"\n{text}')
        main(argv)
        assert part in capsys.readouterr().err
    file.write_text("[https]\nprefix = '/lan'\n")
    assert main(argv) == ExitCode.USAGE
    said = f"{file}: https.prefix: is for an HTTPS side: give https.listen"
    assert said in capsys.readouterr().err


def test_check_says_all_that_is_wrong_and_starts_nothing(services, tmp_path, capsys):
    file = tmp_path / "f.toml"
    file.write_text(CHECKED)
    argv = ["serve", "--check", "--config", str(file), "--state", str(tmp_path / "s")]
    assert main(argv) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    for part in (
        "mtuu",
        "switch: unknown option gard",
        "port.a.vlan",
        "port.b.iso",
        "foreign[1]",
        "https: unknown option listn",
        "https.prefix = 7",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)
    file.write_text("[serve]\nmtu = 1500\n")
    assert main(argv) == ExitCode.OK
    assert capsys.readouterr().err == f"vswitch: {file}: nothing is wrong\n"
    assert not services.configs
    assert not (tmp_path / "s").exists()


class AtTerminal(io.StringIO):
    def isatty(self):
        return True


def test_join_asks_for_the_interface(services, tmp_path, monkeypatch, capsys):
    found = [
        (
            Link(2, "eth0", "02:00:00:00:00:01", 1500, True, "", False),
            ["192.0.2.7/24", "fe80::1/64"],
        ),
        (Link(3, "vsw0", "02:00:00:00:00:02", 1500, True, "tun", True), ["10.77.0.2/24"]),
        (Link(4, "wlan0", "02:00:00:00:00:03", 1500, False, "", False), []),
    ]
    monkeypatch.setattr("vswitch.devices.netlink.interfaces", lambda: found)
    argv = ["join", "vsw1:x", "--name", "pc1", "--state", str(tmp_path), "--bind", "ask"]
    for said, bound in (("2\n", "wlan0"), ("9\nx\n1\n", "eth0"), ("wlan0\n", "wlan0")):
        monkeypatch.setattr(sys, "stdin", AtTerminal(said))
        assert main(argv) == ExitCode.OK
        assert services.configs[-1].bind == bound
        told = capsys.readouterr().err
        assert "1  eth0       02:00:00:00:00:01  up     192.0.2.7/24, fe80::1/64" in told
        assert "vsw0" not in told
    monkeypatch.setattr(sys, "stdin", AtTerminal(""))
    assert main(argv) == ExitCode.USAGE
    assert "no interface was chosen" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    assert main(argv) == ExitCode.USAGE
    assert "asks at a terminal, and there is none" in capsys.readouterr().err
