"""The command line of the measures; what each says and when it fails is in its own module."""

import argparse
import sys
from collections.abc import Sequence

import tests.structure
from tests.structure import graph, lines, repeats
from tests.structure.source import CHECKOUT, directory


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.structure",
        description=tests.structure.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    measures = parser.add_subparsers(required=True, metavar="MEASURE")
    for module in (graph, lines, repeats):
        assert module.__doc__ is not None
        measure = measures.add_parser(
            module.__name__.rpartition(".")[2], help=module.__doc__.splitlines()[0]
        )
        measure.add_argument(
            "--root", type=directory, default=CHECKOUT, help="the checkout (default: this one)"
        )
        module.add_arguments(measure)
        measure.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    result: int = args.run(args)
    return result


if __name__ == "__main__":
    sys.exit(main())
