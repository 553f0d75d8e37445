"""`vswitch doctor`: what keeps a switch or a member from working, and what to do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import DoctorConfig
from vswitch.config.sources import add_flags
from vswitch.doctor.findings import Facts, Finding, judge
from vswitch.doctor.table import Severity
from vswitch.errors import ExitCode
from vswitch.management.status import SCHEMA, to_json


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    add_examination(
        subparsers,
        "doctor",
        "Look at this host, at what runs here, and at the way to the switch, and say what is wrong "
        "and what to do. Root sees the most.",
        DoctorConfig,
    )


def run(args: argparse.Namespace) -> int:
    """Look, and print what was found."""
    config = config_from(args, DoctorConfig)
    return report(config, look(config, args.target, way_alone=False))


def add_examination(
    subparsers: Subparsers, name: str, text: str, options: type[DoctorConfig]
) -> None:
    """A command that looks at a switch or at all that are known here."""
    parser = add_command(
        subparsers,
        name,
        f"{text} Of a switch by a join string (which is not used up), the name of a membership, or "
        "HOST:PORT; without one, of all memberships here. The exit code is 1 if there is a "
        "problem.",
        f"vswitch {name} pc1",
    )
    parser.add_argument("target", nargs="?", metavar="STRING|NAME|PLACE", help="which switch")
    add_flags(parser, options)


def look(config: DoctorConfig, target: str | None, *, way_alone: bool, time: float = 0.0) -> Facts:
    """The facts about what was asked for."""
    import trio

    from vswitch.doctor.examine import examine, target_of
    from vswitch.members.handshakes import post_quantum_of

    of, wanted = target_of(config.files, target), post_quantum_of(config.pq)

    async def main() -> Facts:
        return await examine(config.files, of, wanted, way_alone=way_alone, time=time)

    return trio.run(main)


def report(
    config: DoctorConfig,
    facts: Facts,
    measured: Mapping[str, object] | None = None,
    lines: Sequence[str] = (),
) -> int:
    """Print `measured` or, for people, `lines`, and the findings: whether anything is a problem."""
    findings = judge(facts)
    if config.json:
        print_json({"schema": SCHEMA, **(measured or {}), "findings": to_json(findings)})
    else:
        answer(*([*lines, *_lines_of(findings)] or ["nothing found"]))
    bad = any(each.severity == Severity.PROBLEM for each in findings)
    return ExitCode.FAILED if bad else ExitCode.OK


def _lines_of(findings: list[Finding]) -> list[str]:
    """Three lines for each."""
    return [
        line
        for each in findings
        for line in (
            f"{each.severity}: {each.title} [{each.id}]",
            f"  seen: {each.seen}",
            f"  do: {each.remedy}",
        )
    ]
