"""A lab with the real thing in it: a switch host that runs `serve`, members that run `join`.

    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        lan.join("pc1")
        lan.wait_connected("pc1")

    lan = Lan(lab, paths={"pc1": WireSpec(forward=PathSpec(rate=5e6, delay=0.02))})

    lan.code["pc1"] = Code(Path("../older"), (".venv/bin/python",))  # another checkout's vswitch

Every host hangs with `eth0` on one bridge, the underlay; members have the LAN on `vsw0`. The
commands are run as a user would, each host with a state directory of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs

from vswitch.devices import netlink
from vswitch.errors import TimedOut, VswitchError
from vswitch.lab.host import Host
from vswitch.lab.job import WireSpec
from vswitch.lab.lab import BRIDGE, Lab
from vswitch.lab.wait import wait_until
from vswitch.lab.wire import End, Wire
from vswitch.namespaces.holder import PACKAGES
from vswitch.registry.invite import JoinString

T = TypeVar("T")

DEV = "vsw0"
UNDERLAY = "eth0"
PORT = 7450  # UDP
SWITCH_ADDRESS = "192.0.2.1"  # TEST-NET-1: RFC 5737
FIRST_MEMBER = 11  # last octet on the underlay
UP_TIMEOUT = 30  # seconds: three programs start on a loaded machine
STOP_TIMEOUT = 10  # seconds
LOG_TAIL = 30  # lines


@attrs.frozen
class Code:
    """Which vswitch a host runs: the checkout's, under an interpreter with its options."""

    checkout: Path = PACKAGES
    python: tuple[str, ...] = (sys.executable,)
    variables: Mapping[str, str] = attrs.field(factory=dict)  # that it has besides

    @property
    def environment(self) -> dict[str, str]:
        # -m would look for packages where the program is started, before all others.
        paths = {"PYTHONPATH": str(self.checkout), "PYTHONSAFEPATH": "1"}
        return {**paths, **self.variables}


OWN = Code()


@attrs.define(eq=False)
class Program:
    """A command of ours that keeps running in a host; what it says goes to `log`."""

    host: Host
    argv: list[str]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """Command and host."""
        return f"{self.argv[self.argv.index('vswitch') + 1]} in {self.host.name}"

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end: the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"{self.name} goes on {STOP_TIMEOUT} s after {number.name}:\n{self.tail()}"
            ) from None

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:])


@attrs.define(eq=False)
class Lan:
    """The underlay, the switch host `switch` and whatever members are made."""

    lab: Lab
    paths: Mapping[str, WireSpec] = attrs.field(factory=dict)  # by host: others have a plain veth
    wires: dict[str, Wire] = attrs.field(init=False, factory=dict)
    underlay: Host = attrs.field(init=False)
    switch: Host = attrs.field(init=False)
    members: dict[str, Host] = attrs.field(init=False, factory=dict)
    programs: dict[str, Program] = attrs.field(init=False, factory=dict)  # by member, and switch
    ports: dict[str, str] = attrs.field(init=False, factory=dict)  # by host: its end at the bridge
    code: dict[str, Code] = attrs.field(init=False, factory=dict)  # by host: others run OWN

    def __attrs_post_init__(self) -> None:
        self.underlay = self.lab.bridge("underlay")
        self.switch = self._attach("switch", f"{SWITCH_ADDRESS}/24")

    def serve(self, *options: str) -> Program:
        """Start the switch, and wait until it answers."""
        program = self._start(
            self.switch, "serve", "--listen", f":{PORT}", "--public", SWITCH_ADDRESS, *options
        )
        self.programs["switch"] = program
        self._wait(self.status, "answer of the switch", program)
        return program

    def host(self, name: str) -> Host:
        """A host on the underlay, made if there is none of that name."""
        if name not in self.members:
            self.members[name] = self._attach(
                name, f"192.0.2.{FIRST_MEMBER + len(self.members)}/24"
            )
        return self.members[name]

    def join(
        self, name: str, *options: str, invite: str | None = None, host: Host | None = None
    ) -> Program:
        """Start a member, on a host of its own unless told otherwise.

        It gets an invite (a new one if none is given) where it needs one: not on the host of the
        switch, and not once it has a profile.
        """
        host = host or self.host(name)
        self.members[name] = host
        known = host is self.switch or (self.state(host) / "members" / f"{name}.toml").exists()
        arguments = ["--name", name, "--dev", DEV, *options]
        if invite is None and known:
            program = self._start(host, "join", *arguments)
        else:
            text = self.invite(name) if invite is None else invite
            if self._code(host).checkout != self._code(self.switch).checkout:
                text = _read_by_all(text)
            program = self._start(host, "join", "-", *arguments, text=f"{text}\n")
        self.programs[name] = program
        return program

    def invite(self, name: str, *options: str) -> str:
        return self.command(self.switch, "invite", name, *options).stdout.strip()

    def status(self) -> dict[str, Any] | None:
        """What the switch says about itself; None while it does not answer."""
        done = self.command(self.switch, "status", "--json", check=False)
        if done.returncode != 0:
            return None
        status: dict[str, Any] | None = json.loads(done.stdout)["switch"]
        return status

    def port(self, name: str) -> dict[str, Any] | None:
        """The switch's port of a member that is connected now."""
        ports = (self.status() or {}).get("ports", [])
        found = [port for port in ports if (port["name"], port["state"]) == (name, "up")]
        return found[0] if found else None

    def wait_connected(self, *names: str) -> list[dict[str, Any]]:
        """Wait until these members are up with their address: their ports, in that order."""
        return [
            self._wait(partial(self._complete, name), f"{name} on the switch", self.programs[name])
            for name in names
        ]

    def command(
        self, host: Host, command: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end, with the state of that host."""
        argv, code = self.argv(host, command, *arguments), self._code(host)
        return host.run(argv, check=check, env=code.environment)

    def stop(self) -> None:
        """Stop all programs as a user would, members first."""
        for name in sorted(self.programs, key="switch".__eq__):
            if self.programs[name].running:
                self.programs[name].stop()

    def state(self, host: Host) -> Path:
        return host.directory / "state"

    def _complete(self, name: str) -> dict[str, Any] | None:
        port = self.port(name)
        if port is None or self.members[name].call(netlink.find_link, DEV) is None:
            return None
        wanted = port["address"]
        return port if wanted in (None, *self.members[name].call(netlink.addresses, DEV)) else None

    def _attach(self, name: str, address: str) -> Host:
        host = self.lab.host(name)
        spec = self.paths.get(name)
        if spec is None:
            self.ports[name] = self.lab.link(host, self.underlay, ifname=UNDERLAY, address=address)
            return host
        port = self.ports[name] = f"wire{len(self.wires) + 1}"
        wire = Wire(
            self.lab,
            host,
            self.underlay,
            forward=spec.forward,
            back=spec.back,
            nat=spec.nat,
            seed=spec.seed,
            a_end=End(UNDERLAY, (address,)),
            b_end=End(port, master=BRIDGE),
        )
        self.wires[name] = self.lab.enter(wire)
        return host

    def argv(self, host: Host, command: str, *arguments: str) -> list[str]:
        """The command line of a command of ours, with the state of that host at the end."""
        state = str(self.state(host))
        python = self._code(host).python
        return [*python, "-m", "vswitch", command, *arguments, "--state", state]

    def _code(self, host: Host) -> Code:
        return self.code.get(host.name, OWN)

    def _start(self, host: Host, command: str, *arguments: str, text: str = "") -> Program:
        argv = self.argv(host, command, *arguments)
        log = host.directory / f"{command}.log"
        with log.open("ab") as output:
            process = host.popen(
                argv,
                env=self._code(host).environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        assert process.stdin is not None  # asked for above
        try:
            with process.stdin:
                process.stdin.write(text.encode())
        except BrokenPipeError:
            pass  # it ended already; whoever waits for it says so
        return Program(host, argv, log, process)

    def _wait(self, question: Callable[[], T | None], what: str, program: Program) -> T:
        def ask() -> T | None:
            if not program.running:
                raise VswitchError(f"{program.name} ended:\n{program.tail()}")
            return question()

        try:
            return wait_until(ask, what, timeout=UP_TIMEOUT)
        except TimedOut as error:
            raise TimedOut(f"{error}; {program.name} said:\n{program.tail()}") from None


def _read_by_all(text: str) -> str:
    """The same invite in the form that every version reads, without the member's name."""
    string = JoinString.parse_untrusted(text)
    return attrs.evolve(string, name="", servers=string.servers[:1], https=()).encode()
