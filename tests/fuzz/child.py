"""One target, searched or replayed, in a process of its own: `python -m tests.fuzz.child`.

Nothing of the packages is imported before atheris has said how. The input that runs is on disk
before it runs, so that it is there when the process is not.
"""

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.corpus import CORPUS, inputs, save
from tests.fuzz.mutate import LONGEST, search

FOUND = 77  # exit code: an invariant was broken (libFuzzer's own)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.child")
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--replay", type=Path)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what is refused is told, and here all is refused
    if args.replay is not None:
        from tests.fuzz.targets import ALL

        ALL[args.target].run(args.replay.read_bytes())
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    return _blind(args) if args.blind else _guided(args)


def _blind(args: argparse.Namespace) -> int:
    from tests.fuzz.targets import ALL

    end, current = time.monotonic() + args.seconds, args.out / "current"
    running = b""

    def begin(data: bytes) -> None:
        nonlocal running
        running = data
        current.write_bytes(data)

    try:
        corpus = inputs(args.target) or [b"\0"]
        number = search(
            ALL[args.target].run,
            corpus,
            args.seed,
            begin,
            lambda _: time.monotonic() < end,
        )
    except Exception:
        traceback.print_exc()
        save(args.out, "crash", running)
        return FOUND
    print(f"{number} inputs")
    return 0


def _guided(args: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["transport", "vswitch"]):
        from tests.fuzz.targets import ALL

    found = args.out / "found"
    found.mkdir(exist_ok=True)
    options = [
        sys.argv[0],
        *(str(folder) for folder in (found, CORPUS / args.target) if folder.is_dir()),
        f"-max_total_time={max(1, round(args.seconds))}",
        f"-seed={args.seed}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={args.out}/",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup(options, ALL[args.target].run)
    atheris.Fuzz()  # does not return
    return 0


if __name__ == "__main__":
    sys.exit(main())
