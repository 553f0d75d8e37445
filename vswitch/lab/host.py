"""One host of a lab: functions called and programs run inside its namespaces.

Invariants: what a host runs belongs to a session of its own (a Ctrl-C on the terminal reaches
the lab alone) and dies with the thread that started it. A host answers one call at a time.

Errors: what a called function raises is raised here, with the place in a note;
`subprocess.CalledProcessError` and `subprocess.TimeoutExpired` from `run`, with the output in
the message; `VswitchError` when the host itself is gone.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

import attrs

from vswitch.namespaces import enter
from vswitch.namespaces.holder import CALL_TIMEOUT, PACKAGES, Holder, start_holder

P = ParamSpec("P")
T = TypeVar("T")

STOP_TIMEOUT = 5  # seconds between SIGTERM and SIGKILL
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


@attrs.frozen
class Call(Generic[T]):
    """A function that runs in a host."""

    _host: Host

    def result(self, timeout: float = CALL_TIMEOUT) -> T:
        """Wait for the end, `timeout` seconds at most (`TimedOut`), and give what it returned."""
        return self._host._holder.answer(timeout)  # type: ignore[no-any-return]


@attrs.define(eq=False)
class Host:
    """A network and a mount namespace with a process in them; made by `Lab.host`."""

    name: str
    directory: Path  # private to the host, removed with it; its HOME
    rootless: bool
    _holder: Holder
    _children: list[subprocess.Popen[Any]] = attrs.field(factory=list)

    @property
    def pid(self) -> int:
        """Of the process that holds the namespaces."""
        return self._holder.pid

    @property
    def environment(self) -> dict[str, str]:
        """A clean environment for programs of this host."""
        return {
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "PYTHONPATH": str(PACKAGES),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def enter(self) -> str:
        """The command that opens a shell in this host."""
        user = "-U --preserve-credentials " if self.rootless else ""
        return f"nsenter -t {self.pid} {user}-n -m"

    @property
    def hosts_file(self) -> Path:
        """What this host has as /etc/hosts; write into it, do not replace it."""
        return self.directory / "etc-hosts"

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Begin to call an importable function in the host; its result must be collected."""
        self._holder.begin(function, *args, **kwargs)
        return Call(self)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an importable function in the host."""
        return self.start(function, *args, **kwargs).result()

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program in the host. `env` adds to the clean environment.

        It is killed when the calling thread ends: call from one that lives as long as the lab.
        """
        child = subprocess.Popen(
            enter.command(list(argv), join=self.pid, parent=os.getpid()),
            env={**self.environment, **(env or {})},
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        self._children.append(child)
        return child

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = CALL_TIMEOUT,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host to its end, `timeout` seconds at most; output as text."""
        child = self.popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with child:
                try:
                    out, err = child.communicate(input, timeout=timeout)
                except BaseException:
                    child.kill()
                    raise
        finally:
            self._children.remove(child)
        done = subprocess.CompletedProcess(list(argv), child.returncode, out, err)
        if check and child.returncode != 0:
            failed = subprocess.CalledProcessError(child.returncode, shlex.join(argv), out, err)
            failed.add_note(f"in {self.name}: {err or out}")
            raise failed
        return done

    def close(self) -> None:
        """Stop its programs, SIGTERM first, and let go of its namespaces."""
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        self._children.clear()
        self._holder.close()


def start_host(name: str, directory: Path, *, rootless: bool, join_user: int | None) -> Host:
    """Make a host: rootless ones in the user namespace of process `join_user`, or a new one."""
    directory.mkdir(mode=0o700)
    hosts, resolv = directory / "etc-hosts", directory / "etc-resolv.conf"
    hosts.write_text(HOSTS)
    resolv.write_text("")
    holder = start_holder(
        f"the lab host {name}",
        directory,
        new_user=rootless and join_user is None,
        join_user=join_user,
        binds={str(hosts): "/etc/hosts", str(resolv): "/etc/resolv.conf"},
    )
    return Host(name, directory, rootless, holder)
