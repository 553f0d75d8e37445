import pytest

from tests.structure.__main__ import main
from tests.structure.conftest import Tree
from tests.structure.graph import Import, circles, draw, floors, judge, read
from tests.structure.source import CHECKOUT


def test_the_house_is_in_order() -> None:
    assert judge(CHECKOUT) == []


def test_imports_are_resolved_wherever_they_stand(tree: Tree) -> None:
    root = tree(
        {
            "vswitch/core/__init__.py": "from . import frame\n",
            "vswitch/core/frame.py": "import os\nfrom ..state import State\n",
            "vswitch/core/vlan.py": "from .frame import A, B\nfrom . import frame\n",
            "vswitch/state.py": "def f():\n    import transport.wire\n",
            "vswitch/cli.py": "from transport import Peer, wire\nfrom vswitch.core import frame\n",
            "transport/wire.py": "from os import path\n",
        }
    )
    modules, imports = read(root)
    assert modules == {
        *("vswitch", "vswitch.core", "vswitch.core.frame", "vswitch.core.vlan", "vswitch.state"),
        *("vswitch.cli", "transport", "transport.wire"),
    }
    assert imports == [
        Import("vswitch.cli", "transport", "vswitch/cli.py:1"),
        Import("vswitch.cli", "transport.wire", "vswitch/cli.py:1"),
        Import("vswitch.cli", "vswitch.core.frame", "vswitch/cli.py:2"),
        Import("vswitch.core", "vswitch.core.frame", "vswitch/core/__init__.py:1"),
        Import("vswitch.core.frame", "vswitch.state", "vswitch/core/frame.py:2"),
        Import("vswitch.core.vlan", "vswitch.core.frame", "vswitch/core/vlan.py:1"),
        Import("vswitch.core.vlan", "vswitch.core.frame", "vswitch/core/vlan.py:2"),
        Import("vswitch.state", "transport.wire", "vswitch/state.py:2"),
    ]


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_types_are_no_arrows(
    tree: Tree, test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(
        {
            "vswitch/a.py": f"if {test}:\n    import vswitch.b\nelse:\n    import vswitch.c\n",
            "vswitch/b.py": "import vswitch.a\n",
            "vswitch/c.py": "",
        }
    )
    assert draw("vswitch", *read(root)).rooms == {
        "vswitch.a": {"vswitch.c"},
        "vswitch.b": {"vswitch.a"},
        "vswitch.c": set(),
    }
    assert main(["graph", "--types", "--root", str(root)]) == 0
    assert "only for types: vswitch.a -> vswitch.b (vswitch/a.py:2)" in capsys.readouterr().out


def test_the_public_face_imports_all_and_is_imported(tree: Tree) -> None:
    root = tree(
        {
            "vswitch/__init__.py": "from vswitch.a import A\n",
            "vswitch/__main__.py": "from vswitch.a import A\n",
            "vswitch/a.py": "from transport import Peer\nfrom vswitch import A\n",
        }
    )
    assert draw("vswitch", *read(root)).rooms == {"vswitch.a": set()}
    assert judge(root) == []


def test_circles_and_floors() -> None:
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": set(), "f": {"e", "f"}}
    assert circles(edges) == [["b", "c"]]
    assert floors(edges) == [["e"], ["d", "f"], ["b", "c"], ["a"]]


def test_a_circle_of_rooms_that_is_none_of_modules(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(
        {
            "vswitch/a/one.py": "import vswitch.b.one\n",
            "vswitch/a/two.py": "",
            "vswitch/b/one.py": "\nimport vswitch.a.two\nimport vswitch.c\n",
            "vswitch/c.py": "",
        }
    )
    assert main(["graph", "--root", str(root)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "circle of rooms: vswitch.a vswitch.b",
        "arrow back up: vswitch.a -> vswitch.b (vswitch/a/one.py:1)",
        "arrow back up: vswitch.b -> vswitch.a (vswitch/b/one.py:2)",
    ]


def test_a_circle_of_modules_within_a_room(tree: Tree) -> None:
    root = tree(
        {
            "vswitch/a/one.py": "from . import two\n",
            "vswitch/a/two.py": "def f():\n    from .one import x\n",
        }
    )
    assert judge(root) == ["circle of modules: vswitch.a.one vswitch.a.two"]


def test_transport_keeps_to_its_layers(tree: Tree) -> None:
    root = tree(
        {
            "transport/errors.py": "import transport.constants\n",
            "transport/constants.py": "",
            "transport/crypto/noise.py": "import transport.wire.packet\nimport transport.errors\n",
            "transport/wire/packet.py": "",
            "transport/path/probing.py": "import transport.session.table\n",
            "transport/session/table.py": "",
            "transport/other.py": "import vswitch\n",
        }
    )
    assert judge(root) == [
        "transport imports vswitch (transport/other.py:1)",
        "transport.other has no layer",
        "arrow back up: transport.path -> transport.session (transport/path/probing.py:1)",
    ]


def test_a_full_house_is_in_order_and_one_more_is_too_many(tree: Tree) -> None:
    full = {f"vswitch/room{number}/x.py": "" for number in range(21)}
    full |= {f"vswitch/loose{number}.py": "" for number in range(10)} | {"vswitch/__main__.py": ""}
    assert judge(tree(full)) == []
    assert judge(tree({"vswitch/loose10.py": ""})) == [
        "vswitch has 32 rooms, more than 31",
        "vswitch has 11 loose modules, more than 10",
    ]
    rooms = tree({f"transport/room{number}/x.py": "" for number in range(17)}, "other")
    assert judge(rooms)[0] == "transport has 17 rooms, more than 16"


def test_what_is_printed(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree({"vswitch/a/one.py": "import vswitch.b\n", "vswitch/b.py": ""})
    assert main(["graph", "--root", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "vswitch: 2 rooms, 1 of them loose modules; 2 modules; 1 arrows between rooms; 2 floors",
        "  floor 1: a",
        "  floor 0: b",
        "transport: 0 rooms, 0 of them loose modules; 0 modules; 0 arrows between rooms; 0 floors",
    ]
