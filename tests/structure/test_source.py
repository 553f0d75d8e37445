import argparse
from pathlib import Path

import pytest

from tests.structure.source import code_lines, directory, module_name, room_of

SOURCE = '''"""A module.

With a docstring.
"""

import os  # what follows is code
from a import (
    b,
)


# a comment
class C:
    """One line."""

    x   =   "# no comment"  # a comment

    async def f(self): "é"; return """text

    # of a string
    """


def g():
    r"""A raw one."""
    "no docstring"
'''


def test_code_without_blanks_comments_and_docstrings() -> None:
    assert code_lines(SOURCE) == [
        (6, "import os"),
        (7, "from a import ("),
        (8, "b,"),
        (9, ")"),
        (13, "class C:"),
        (16, 'x = "# no comment"'),
        (18, 'async def f(self): "é"; return """text'),
        (20, "# of a string"),
        (21, '"""'),
        (24, "def g():"),
        (26, '"no docstring"'),
    ]


def test_imports_can_be_left_out() -> None:
    assert [number for number, _ in code_lines(SOURCE, imports=False)][:2] == [13, 16]


def test_a_docstring_in_two_parts_or_after_wide_characters_is_no_code() -> None:
    source = 'class é:\n    "one" \\\n    "two"\n    x = 1\nclass ü: """three\n    four"""\n'
    assert [number for number, _ in code_lines(source)] == [1, 4, 5]


def test_names_of_modules() -> None:
    root = Path("checkout")
    for path, name in {
        "vswitch/__init__.py": "vswitch",
        "vswitch/core/__init__.py": "vswitch.core",
        "vswitch/core/frame.py": "vswitch.core.frame",
        "transport/wire.py": "transport.wire",
    }.items():
        assert module_name(root / path, root) == name


def test_rooms_are_folders_loose_modules_and_the_face() -> None:
    assert room_of("vswitch.core.frame") == room_of("vswitch.core") == "vswitch.core"
    assert room_of("transport.wire") == "transport.wire"
    assert room_of("vswitch") == room_of("vswitch.__main__") == "vswitch"


def test_a_folder_without_the_packages_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="has no vswitch"):
        directory(str(tmp_path))
