"""What three honest members keep while a fourth does its worst, with a real `serve`.

    python -m benchmarks.hostile                             # all, about six minutes
    python -m benchmarks.hostile --only duplicates --mbit 5
    python -m benchmarks.hostile --seconds 20 --rounds 3 --json hostile.json

pc1 sends TCP of a fixed rate to pc2, pc3 pings pc2: alone, then for as long again beside the
hostile member (`member.py`), in turns. `who ended` names each honest member whose session is not
the one from before, the switch if it runs no more, and how often the hostile one's session was
ended, with the reason. All share this machine, the hostile program included. Needs root, iperf3 and
ping. The exit status is 1 where a figure was missed: with other work on the machine it may.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks.hostile.member import ATTACKS
from benchmarks.paths.verdict import Check
from benchmarks.usage import resident_mib, usage
from transport import load_key_file
from transport.constants import MEMORY_LIMIT
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import PORT, SWITCH_ADDRESS, Lan
from vswitch.state import StateDir

KEPT, PING_TIMES, PING_MORE = 0.9, 3.0, 20.0  # of the goodput; × and ms of the p99 alone
HONEST = ("pc1", "pc2", "pc3")
HOSTILE = "evil"
RATES = (5.0, 50.0)  # Mbit/s of the hostile member
OFFERED = 20  # Mbit/s of the honest transfer
EVERY = 0.02  # s between pings
PATIENCE = 5.0  # s for the answer to one
BEFORE = 1.5  # s that the hostile member has had when the honest are looked at
GRACE = 30.0  # s that a program may take beyond its own end
TIME = re.compile(r"time=([0-9.]+) ms")


@attrs.frozen
class Look:
    """What was seen for some seconds."""

    mbit: float  # that arrived
    p99: float  # ms; of pings; one without an answer counts as long as was waited
    resident: float  # MiB of the switch, at most
    switch: float  # its per cent of a core


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=ATTACKS, metavar="NAME", default=[*ATTACKS])
    parser.add_argument("--mbit", nargs="+", type=float, default=RATES, help="of the hostile one")
    parser.add_argument("--seconds", type=int, default=8, help="of each look (8)")
    parser.add_argument("--rounds", type=int, default=1, help="of alone and beside (1)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    rows, met = [], True
    for name in args.only:
        # One that reconnects does so as fast as it can: the rate is not what bounds it.
        for mbit in args.mbit if name != "reconnects" else [max(args.mbit)]:
            row = measure(name, mbit, args.seconds, args.rounds)
            rows.append(row)
            print(told(row), flush=True)
            for check in checks(row):
                met = met and check.met
                if not check.met:
                    print(f"  SHORT {check}", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    raise SystemExit(0 if met else 1)


def told(row: dict[str, Any]) -> str:
    """One case in one line."""
    alone, beside, hostile = row["alone"], row["beside"], row["hostile"]
    ended = row["ended"] or ["nobody"]
    return (
        f"{row['attack']:11} {row['mbit']:3g} Mbit/s ({hostile['mbit']:.1f} sent)"
        f"  kept {100 * row['kept']:.0f} %"
        f"  ping p99 {alone['p99']:.1f} -> {beside['p99']:.1f} ms"
        f" (x {beside['p99'] / alone['p99']:.1f})"
        f"  switch {alone['resident']:.0f} -> {beside['resident']:.0f} MiB,"
        f" {alone['switch']:.0f} -> {beside['switch']:.0f} % of a core"
        f"  ended: {', '.join(ended)}"
    )


def checks(row: dict[str, Any]) -> list[Check]:
    """What is asked; the hostile member's own end is none of it."""
    alone, beside = row["alone"], row["beside"]
    honest = [name for name in row["ended"] if not name.startswith(HOSTILE)]
    most = alone["resident"] + MEMORY_LIMIT / 2**20
    return [
        Check("goodput kept", row["kept"], low=KEPT),
        Check("ping p99, ms", beside["p99"], high=PING_TIMES * alone["p99"] + PING_MORE),
        Check("memory of the switch, MiB", beside["resident"], high=most),
        Check("honest members and switches that ended", len(honest), high=0),
    ]


def measure(attack: str, mbit: float, seconds: int, rounds: int) -> dict[str, Any]:
    """One case, with a switch of its own: what came before would be seen in its memory."""
    with Lab() as lab:
        lan = Lan(lab)
        switch = lan.serve()
        for name in (*HONEST, HOSTILE):
            lan.join(name)
        lan.wait_connected(*HONEST, HOSTILE)
        lan.programs[HOSTILE].stop()  # it was let in, and has its key: that is all it needed
        key = load_key_file(StateDir(lan.state(lan.switch)).server_key).public.raw.hex()
        began = {name: _since(lan, name) for name in HONEST}
        alone, beside, hostile = [], [], []
        for _ in range(rounds):
            alone.append(_look(lan, seconds))
            process = _attack(lan, attack, key, mbit, seconds + 2 * BEFORE)
            time.sleep(BEFORE)
            beside.append(_look(lan, seconds))
            said = process.communicate(timeout=seconds + GRACE)[0]
            hostile.append(json.loads(said))
        ended = [
            f"{name} (session)" for name in HONEST if _since(lan, name) != began[name]
        ]  # fmt: skip
        if not switch.running:
            ended = [f"the switch (exit code {switch.process.returncode})"]
        for each in hostile:
            ended += [f"{HOSTILE} {n} x: {why}" for why, n in each["ended"].items()]
        for program in lan.programs.values():
            if program.running:
                program.stop()
    together, apart = _median(beside), _median(alone)
    return {
        "attack": attack,
        "mbit": mbit,
        "kept": together.mbit / max(apart.mbit, 1e-9),
        "alone": attrs.asdict(apart),
        "beside": attrs.asdict(together),
        "hostile": hostile[-1],
        "ended": ended,
    }


def _median(looks: list[Look]) -> Look:
    """Of each figure by itself."""
    columns = zip(*(attrs.astuple(look) for look in looks), strict=True)
    return Look(*map(statistics.median, columns))


def _since(lan: Lan, name: str) -> object:
    """When the session of a member began that is up; None if it has none, or nobody says."""
    return (lan.port(name) or {}).get("since")


def _attack(
    lan: Lan, attack: str, key: str, mbit: float, seconds: float
) -> subprocess.Popen[str]:  # fmt: skip
    host = lan.members[HOSTILE]
    path = StateDir(lan.state(host)).key(HOSTILE)
    argv = [sys.executable, "-m", "benchmarks.hostile.member", attack, str(path), key]
    argv += [SWITCH_ADDRESS, str(PORT), str(mbit), str(seconds)]
    process: subprocess.Popen[str] = host.popen(argv, stdout=subprocess.PIPE, text=True)
    return process


def _look(lan: Lan, seconds: int) -> Look:
    """What the honest have of a transfer and of pings, and what that costs the switch."""
    pc1, pc2, pc3 = (lan.members[name] for name in HONEST)
    address = _address(lan)
    pid = lan.programs["switch"].process.pid
    server = pc2.popen(["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL)
    wait_until(lambda: "5201" in pc2.run(["ss", "-ltn"]).stdout, "a listening iperf3")
    count = int(seconds / EVERY)
    ping = pc3.popen(
        ["ping", "-n", "-i", f"{EVERY:g}", "-c", str(count), "-W", f"{PATIENCE:g}", address],
        stdout=subprocess.PIPE,
        text=True,
    )
    before, began = usage([pid]), time.monotonic()
    with _Watching(pid) as watching:
        argv = ["iperf3", "-c", address, "-t", str(seconds), "-b", f"{OFFERED}M", "-J"]
        limit = seconds * 5 + GRACE
        client = pc1.popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            said = client.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:  # it waits for what never comes: nothing was received
            client.kill()
            said = client.communicate()[0]
        spent = time.monotonic() - began
        try:
            answers = ping.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            ping.kill()
            answers = ping.communicate()[0]
    used, both = usage([pid]) - before, time.monotonic() - began
    server.kill()
    server.wait()
    return Look(
        mbit=_received(said) * 8 / 1e6 / spent,
        p99=_p99([float(text) for text in TIME.findall(answers)], count),
        resident=watching.most,
        switch=100 * used.processes / both,
    )


def _address(lan: Lan) -> str:
    """pc2's on the LAN, from its own program's log: the switch may not answer."""
    (address,) = re.findall(r" connected .*?address=([0-9.]+)/", _log(lan, "pc2"))[-1:]
    return str(address)


def _log(lan: Lan, name: str) -> str:
    return lan.programs[name].log.read_text(errors="replace")


def _received(said: str) -> float:
    """Bytes that arrived, as iperf3's client says."""
    try:
        return float(json.loads(said)["end"]["sum_received"]["bytes"])
    except (ValueError, KeyError):
        return 0.0  # iperf3 was cut off, or never connected


def _p99(times: list[float], sent: int) -> float:
    """Of all that were sent: what got no answer took at least so long as was waited for it."""
    place = int(sent * 0.99)
    return sorted(times)[place] if place < len(times) else 1000.0 * PATIENCE


class _Watching:
    """A context manager: the most resident memory meanwhile, in MiB."""

    def __init__(self, pid: int) -> None:
        self.most = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, resident_mib([self._pid]))

    def __enter__(self) -> _Watching:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    main()
