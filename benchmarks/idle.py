"""What an idle switch and an idle member cost: `python -m benchmarks.idle [--members 50]`.

Starts a real `vswitch serve`, connects that many members to it from one other process, adds one
real `vswitch join` with a TAP where privileges allow, leaves all of them alone, and prints the
share of one core that each process used meanwhile, from /proc/PID/stat. Prints JSON with --json.
Runs on loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from transport import Peer, PrivateKey, load_key_file, open_endpoint, open_udp
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Hello
from vswitch.registry.registry import Registry
from vswitch.state import StateDir

PORT = 17450  # loopback; away from a switch that this host may run
SUBNET = "10.64.0.0/16"  # room for more members than the default has
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def hold(state: StateDir, members: int) -> None:
    """Connect members, say so on stdout, and keep them until the process is ended."""
    server = load_key_file(state.server_key).public
    keys = [PrivateKey.generate() for _ in range(members)]
    with Registry.open(state.registry, create=False) as registry:
        for number, key in enumerate(keys):
            registry.enrol_local(key.public.raw, f"m{number}", time.time())

    async def member(key: PrivateKey, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_endpoint(open_udp("127.0.0.1"), key) as endpoint:
            channel = await endpoint.connect(Peer(server), [("127.0.0.1", PORT)], patience=60)
            heard: list[object] = []
            device = MemberDevice(channel, name="switch", on_control=heard.append)
            device.send_control(Hello(mtu=1500, mac="02:00:00:00:00:01"))
            while True:
                await device.wait_readable()
                try:
                    device.read_nowait(64)
                except trio.WouldBlock:
                    if heard:
                        task_status.started()
                        heard.clear()

    async with trio.open_nursery() as nursery:
        for key in keys:
            await nursery.start(member, key)
        print("connected", flush=True)


def measure(members: int, seconds: float) -> dict[str, object]:
    """Run all of it and return the figures."""
    python = [sys.executable, "-m"]
    vswitch = [*python, "vswitch"]
    processes: dict[str, subprocess.Popen[str]] = {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as directory:
        state = StateDir(Path(directory))
        try:
            listen = f"127.0.0.1:{PORT}"
            processes["switch"] = subprocess.Popen(
                [*vswitch, "serve", "--listen", listen, "--state", directory, "--subnet", SUBNET],
                text=True,
                **quiet,
            )
            wait_for(state.control_socket.exists)
            processes["members"] = subprocess.Popen(
                [*python, "benchmarks.idle", "--hold", directory, "--members", str(members)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert processes["members"].stdout is not None
            assert processes["members"].stdout.readline() == "connected\n"
            if os.geteuid() == 0 and os.path.exists("/dev/net/tun"):
                args = ["--name", "tap", "--dev", "vswidle0", "--address", "none"]
                processes["join"] = subprocess.Popen(
                    [*vswitch, "join", *args, "--state", directory], text=True, **quiet
                )
                wait_for(state.join_socket("tap").exists)
            time.sleep(5)  # neighbour discovery and enrolment are over
            before = {name: cpu_seconds(each.pid) for name, each in processes.items()}
            time.sleep(seconds)
            return {
                "members": members,
                "seconds": seconds,
                "processes": {
                    name: {
                        "core_percent": round(
                            100 * (cpu_seconds(each.pid) - before[name]) / seconds, 3
                        ),
                        "resident_mib": round(resident_mib(each.pid), 1),
                    }
                    for name, each in processes.items()
                },
            }
        finally:
            for each in reversed(processes.values()):
                each.send_signal(signal.SIGTERM)
            for each in processes.values():
                each.wait(60)


def wait_for(condition: object) -> None:
    """Poll until it holds; a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit("idle.py: a process did not start within a minute")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hold", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hold is not None:
        trio.run(hold, StateDir(args.hold), args.members)
        return
    result = measure(args.members, args.seconds)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{args.members} idle members for {args.seconds:g} s; share of one core, memory")
    for name, figures in result["processes"].items():  # type: ignore[attr-defined]
        print(f"  {name:8} {figures['core_percent']:6.3f} %  {figures['resident_mib']:6.1f} MiB")


if __name__ == "__main__":
    main()
