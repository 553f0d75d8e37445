"""The wire format says what the code does, where that can be compared."""

import itertools
import re
from pathlib import Path

import pytest

from transport import constants
from transport.wire.control import CloseCode
from transport.wire.datagrams import CredentialKind, Result
from vswitch.members.protocol import ByeCode

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIRE = (DOCS / "wire-format.md").read_text()


def tables(text, heading):
    """The tables under a heading, as lists of rows of cells."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.M)[1]
    found = [[]]
    for line in section.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def layout(heading, number):
    """(offset, size) of each field of a layout table, which must have no gaps."""
    rows = [row for row in tables(WIRE, heading)[number] if row[0].isdigit()]
    fields = [(int(row[0]), int(row[1])) for row in rows if row[1].isdigit()]
    for (offset, size), (following, _) in itertools.pairwise(fields):
        assert offset + size == following, heading
    return fields


@pytest.mark.parametrize(
    ("heading", "number", "size"),
    [
        ("Type 1: init", 0, constants.INIT_SIZE),
        ("Type 1: init", 1, 88),
        ("Type 2: response", 0, constants.RESPONSE_SIZE),
        ("Type 2: response", 1, 48),
        ("Type 3: cookie reply", 0, constants.COOKIE_REPLY_SIZE),
        ("Types 4, 5 and 7: sealed datagrams", 0, constants.DATA_HEADER_SIZE),
        ("Type 4: KCP", 0, constants.KCP_HEADER_SIZE),
        ("Type 6: stateless reset", 0, constants.RESET_SIZE),
        ("The record stream", 0, 4),
    ],
)
def test_layouts_have_no_gaps_and_the_right_size(heading, number, size):
    fields = layout(heading, number)
    assert fields[0][0] == 0
    assert sum(fields[-1]) == size


def test_wire_format_has_the_right_sizes_in_the_overview():
    sizes = {row[1]: row[3] for row in tables(WIRE, "Datagrams")[0]}
    assert sizes["init"] == f"{constants.INIT_SIZE}, hybrid {constants.HYBRID_INIT_SIZE}"
    answers = constants.RESPONSE_SIZE, constants.HYBRID_RESPONSE_SIZE
    assert sizes["response"] == "{}, hybrid {}".format(*answers)
    assert sizes["cookie reply"] == str(constants.COOKIE_REPLY_SIZE)
    assert sizes["stateless reset"] == str(constants.RESET_SIZE)
    assert sizes["control"] == f"{constants.SEALED_OVERHEAD} + n"


@pytest.mark.parametrize(
    ("start", "numbers"), [("Results: ", Result), ("Credential kinds: ", CredentialKind)]
)
def test_wire_format_lists_all_results_and_credential_kinds(start, numbers):
    text = WIRE[WIRE.index(start) :].split("\n\n")[0]
    listed = [int(number) for number in re.findall(r"[:·]\s(\d+)", text)]
    assert listed == [int(number) for number in numbers]


def test_wire_format_lists_all_close_codes():
    text = WIRE[WIRE.index("Close codes of the transport: ") :].split("\n\n")[0]
    listed = [int(number) for number in re.findall(r"[:·]\s(\d+)", text)]
    assert listed == [int(code) for code in CloseCode]
    text = WIRE[WIRE.index("Codes of `bye`") :].split("\n\n")[0]
    listed = [int(number) for number in re.findall(r"·\s(\d+)", text)]
    assert listed == [int(code) for code in ByeCode if code > max(CloseCode)]
