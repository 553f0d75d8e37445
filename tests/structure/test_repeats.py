import pytest

from tests.structure.__main__ import main
from tests.structure.conftest import Tree
from tests.structure.repeats import find
from tests.structure.source import PACKAGES


def lines(*names: str) -> str:
    return "".join(f"{name} = 1\n" for name in names)


def shown(tree: Tree, **files: str) -> list[str]:
    root = tree({f"vswitch/{name}.py": source for name, source in files.items()})
    return [f"{repeat.length} {repeat}" for repeat in find(root, PACKAGES)]


def test_a_run_is_as_long_as_its_places_agree(tree: Tree) -> None:
    a = lines("p", *"abcdefgh", "q")
    b = lines(*"xyz", *"abcdefgh", "r")
    assert shown(tree, a=a, b=b) == ["8 vswitch/a.py:2-9 = vswitch/b.py:4-11"]


def test_five_lines_are_no_run(tree: Tree) -> None:
    assert shown(tree, a=lines(*"abcde", "p"), b=lines(*"abcde", "q")) == []


def test_a_longer_run_of_fewer_places_comes_first(tree: Tree) -> None:
    a, b, c = lines(*"abcdefgh"), lines(*"abcdefgh"), lines(*"abcdef")
    assert shown(tree, a=a, b=b, c=c) == [
        "8 vswitch/a.py:1-8 = vswitch/b.py:1-8",
        "6 vswitch/a.py:1-6 = vswitch/b.py:1-6 = vswitch/c.py:1-6",
    ]


def test_what_is_left_out_does_not_part_a_run(tree: Tree) -> None:
    a = 'def f():\n    """Doc."""\n    import os\n\n    x = [\n        1,\n        2,\n    ]\n'
    a += "    y = 2\n"
    b = "def f():\n    x   =  [  # why\n        1,\n        2,\n    ]\n\n    y = 2\n"
    tail = "    z = 3\n"
    assert shown(tree, a=a + tail, b=b + tail) == ["6 vswitch/a.py:1-10 = vswitch/b.py:1-8"]


def test_imports_and_punctuation_are_no_lines(tree: Tree) -> None:
    same = "import a\nimport b\nfrom c import (\n    d,\n    e,\n)\nx = [\n    (\n    )\n]\n"
    assert shown(tree, a=same, b=same) == []


def test_places_do_not_overlap(tree: Tree) -> None:
    assert shown(tree, a=lines(*"aaaaaaaaaaa")) == []  # eleven
    assert shown(tree, a=lines(*"aaaaaaaaaaaa")) == ["6 vswitch/a.py:1-6 = vswitch/a.py:7-12"]


def test_a_run_ends_with_its_file(tree: Tree) -> None:
    parts = {"a": lines(*"abc"), "b": lines(*"def"), "c": lines(*"abc"), "d": lines(*"def")}
    assert shown(tree, **parts) == []


def test_tests_are_looked_at_when_asked(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree({"transport/a.py": lines(*"abcdef"), "tests/unit/b.py": lines(*"abcdef")})
    assert main(["repeats", "--root", str(root)]) == 0
    assert capsys.readouterr().out == "0 runs of 6 lines or more stand in several places\n"
    assert main(["repeats", "--tests", "--root", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "   6  transport/a.py:1-6 = tests/unit/b.py:1-6",
        "1 runs of 6 lines or more stand in several places",
    ]
