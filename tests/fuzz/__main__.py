"""The command line: which targets, for how long; and what came of it.

Each target runs in a process of its own, one after the other. Exit code 1: something was found, and
the lines say with which file it is seen again.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tests.fuzz
from tests.fuzz import corpus
from tests.fuzz.targets import ALL, KNOWN, TARGETS

ROOT = Path(__file__).resolve().parents[2]
LATE = (
    90.0  # seconds that a child may take beyond its time: it starts, and its last input may be long
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=tests.fuzz.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for all targets together (1)")
    parser.add_argument(
        "--target", nargs="+", choices=sorted(ALL), metavar="NAME", help="only these"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is tried (1)")
    parser.add_argument("--blind", action="store_true", help="without atheris, even if it is there")
    parser.add_argument("--save", action="store_true", help="add what was found to the corpus")
    parser.add_argument("--out", type=Path, help="for what is found (a new temporary folder)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="the targets, and their inputs")
    other.add_argument("--replay", type=Path, metavar="FILE", help="one input again")
    other.add_argument("--seeds", action="store_true", help="write the encoders' inputs anew")
    args = parser.parse_args(argv)
    names: list[str] = args.target or list(TARGETS)
    if args.list:
        for name in names:
            sizes = [len(data) for data in corpus.inputs(name)]
            print(f"{name:10} {len(sizes):4} inputs {sum(sizes):6} bytes")
        return 0
    if args.seeds:
        for name in names:
            corpus.write_seeds(name, list(ALL[name].seeds()))
        return 0
    if args.replay is not None:
        return _replay(args.replay.resolve(), args.target)
    return _search(names, args)


def _replay(path: Path, target: list[str] | None) -> int:
    known = [folder.name for folder in path.parents if folder.name in ALL]
    name = next(iter(target or known), None)
    if name is None:
        print(f"{path}: of which target? Say --target NAME", file=sys.stderr)
        return 2
    done = subprocess.run([*_child(name), "--out", os.devnull, "--replay", str(path)], cwd=ROOT)
    print(f"{name}: {'still fails' if done.returncode else 'passes'}: {path}")
    return 1 if done.returncode else 0


def _search(names: list[str], args: argparse.Namespace) -> int:
    blind = args.blind or importlib.util.find_spec("atheris") is None
    if blind:
        print(
            "NOT guided by coverage: " + ("as asked" if args.blind else "atheris is not installed")
        )
    out = args.out or Path(tempfile.mkdtemp(prefix="vswitch-fuzz-"))
    out = out.resolve()
    failed = 0
    for name in names:
        seconds = args.minutes * 60 / len(names)
        folder = out / name
        command = [*_child(name), "--out", str(folder), "--seed", str(args.seed)]
        command += ["--seconds", str(seconds), *(["--blind"] if blind else [])]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                timeout=seconds + LATE,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            lines = done.stdout.splitlines()
            said = "\n".join(line for line in lines if not line.startswith("INFO: Instrumenting"))
            code = done.returncode
        except subprocess.TimeoutExpired as late:
            code, said = -1, f"no end: {late}"
        found = sorted(folder.glob("found/*"))
        broken = sorted(path for kind in _BROKEN for path in folder.glob(f"{kind}-*"))
        if code and not broken and (folder / "current").exists():
            broken = [corpus.save(folder, "crash", (folder / "current").read_bytes())]
        known = code and name in KNOWN
        verdict = f"known: {KNOWN[name]}" if known else "FAILED" if code else "ok"
        print(f"{name:10} {_figure(said)}, {len(found)} with new coverage, {verdict}", flush=True)
        if code and not known:
            failed += 1
            print(said[-6000:])
            for path in broken:
                print(f"  again: python -m tests.fuzz --replay {path}")
        if args.save:
            for path in (*found, *broken):
                kind = "found" if path in found else "failed"
                corpus.save(corpus.CORPUS / name, kind, path.read_bytes())
    print(f"{len(names) - failed} of {len(names)} targets ok; files in {out}")
    return 1 if failed else 0


_BROKEN = ("crash", "timeout", "oom", "leak")  # libFuzzer's names of inputs


def _figure(said: str) -> str:
    for line in said.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return f"{line.split()[-1]} inputs"
        if line.endswith(" inputs"):
            return line
    return "? inputs"


def _child(name: str) -> list[str]:
    return [sys.executable, "-m", "tests.fuzz.child", name]


if __name__ == "__main__":
    sys.exit(main())
