"""`vswitch doctor`: what keeps a switch or a member from working, and what to do."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import DoctorConfig
from vswitch.config.sources import add_flags
from vswitch.doctor.findings import Facts, Finding, Severity, judge
from vswitch.errors import ExitCode
from vswitch.management.status import SCHEMA, to_json


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "doctor",
        "Look at this host, at what runs here, and at the way to the switch, and say what is wrong "
        "and what to do. Of a switch by a join string (which is not used up), the name of a "
        "membership, or HOST:PORT; without one, of all memberships here. Root sees the most. The "
        "exit code is 1 if there is a problem.",
        "vswitch doctor pc1",
    )
    parser.add_argument("target", nargs="?", metavar="STRING|NAME|PLACE", help="which switch")
    add_flags(parser, DoctorConfig)


def run(args: argparse.Namespace) -> int:
    """Look, and print what was found."""
    config, facts = look(args, way_alone=False)
    findings = judge(facts)
    if config.json:
        print_json({"schema": SCHEMA, "findings": to_json(findings)})
    else:
        answer(*(lines_of(findings) or ["nothing found"]))
    return exit_code(findings)


def look(args: argparse.Namespace, *, way_alone: bool) -> tuple[DoctorConfig, Facts]:
    """The facts that the arguments ask for."""
    import trio

    from vswitch.doctor.examine import examine, target_of

    config = config_from(args, DoctorConfig)
    target = target_of(config.files, args.target)

    async def main() -> Facts:
        return await examine(config.files, target, way_alone=way_alone)

    return config, trio.run(main)


def lines_of(findings: list[Finding]) -> list[str]:
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


def exit_code(findings: list[Finding]) -> int:
    """Whether anything does not work."""
    bad = any(each.severity == Severity.PROBLEM for each in findings)
    return ExitCode.FAILED if bad else ExitCode.OK
