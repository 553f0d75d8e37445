import pytest

from tests.structure.__main__ import main
from tests.structure.conftest import Tree
from tests.structure.lines import count

FILES = {
    "vswitch/__init__.py": '"""Doc."""\nimport a\n',
    "vswitch/core/a.py": "x = 1\n\n# comment\ny = 2\n",
    "vswitch/core/b.py": "z = 3\n",
    "transport/wire.py": "def f():\n    '''Doc.'''\n    return 1\n",
}


def test_lines_by_room(tree: Tree) -> None:
    assert count(tree(FILES)) == {
        "vswitch": {"vswitch": 1, "vswitch.core": 3},
        "transport": {"transport": 0, "transport.wire": 2},
    }


def test_one_checkout_alone(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lines", "--root", str(tree(FILES))]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "6"]


def test_more_than_the_other_fails_and_less_does_not(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    small = str(tree(FILES, "small"))
    large = str(tree(FILES | {"transport/more.py": "x = 1\n"}, "large"))
    assert main(["lines", "--root", large, "--against", small]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["more", "1", "0", "+1"] in rows
    assert ["core", "3", "3", "+0"] in rows
    assert rows[-1] == ["total", "7", "6", "+1"]
    assert main(["lines", "--root", small, "--against", large]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["total", "6", "7", "-1"]
    assert main(["lines", "--root", small, "--against", small]) == 0
