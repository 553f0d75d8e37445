"""The limits of docs/security.md are those of the code: each by its name, in its unit.

`NAME` is that of one module alone; `module:NAME` says which, where several have one.
"""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import transport
import vswitch

SECURITY = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
UNITS = {"": 1, "s": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20}


def limits(text):
    """(name, value) of each row of the tables of limits that has a name in it."""
    found = re.findall(r"^\| `((?:[\w.]+:)?[A-Z][A-Z0-9_]+)` \| ([^|]+?) \|", text, re.MULTILINE)
    assert found
    return found


@cache
def constants():
    """The modules that assign each name in capitals, and the value there."""
    found = defaultdict(dict)
    for package in (transport, vswitch):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for name in assigned(Path(module.__file__).read_text()):
                found[name][info.name] = getattr(module, name)
    return found


def assigned(source):
    """Names in capitals that a module gives a value itself."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(name)]) if name.isupper():
                yield name
            case ast.AnnAssign(target=ast.Name(name), value=ast.expr()) if name.isupper():
                yield name


def stated(value):
    """What a cell of the table says, in units of the code."""
    number, _, unit = value.partition(" ")
    base, _, power = number.replace(",", "").partition("^")
    return float(base) ** int(power or 1) * UNITS[unit]


def in_code(name):
    module, _, constant = name.rpartition(":")
    places = constants()[constant]
    if module:
        return places[module]
    assert len(places) == 1, f"{name}: say of which module: {', '.join(places) or 'none has it'}"
    return next(iter(places.values()))


@pytest.mark.parametrize(("name", "value"), limits(SECURITY), ids=lambda each: each)
def test_a_limit_is_that_of_the_code(name, value):
    assert stated(value) == in_code(name)


def test_no_limit_is_told_twice():
    names = [name for name, _ in limits(SECURITY)]
    assert len(names) == len(set(names))


def test_every_row_of_the_table_has_a_name_of_the_code():
    section = re.search(r"^## Limits\n(.*?)(?=^## )", SECURITY, re.DOTALL | re.MULTILINE)[1]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(limits(section))  # but for the head


def test_what_is_wrong_is_noticed():
    assert stated("4 MiB") == in_code("INBOX_BYTES") != stated("4 KiB")
    assert stated("2^22") == in_code("transport.constants:REKEY_AFTER_UNITS")
    with pytest.raises(AssertionError, match="none has it"):
        in_code("NO_SUCH_LIMIT")
    with pytest.raises(AssertionError, match="say of which module"):
        in_code("BATCH")  # of several modules
