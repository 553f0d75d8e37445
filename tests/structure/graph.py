"""Draws who imports whom: rooms, floors, circles and arrows back up.

An arrow leads from the room that imports to the room that is imported, also where the import
stands in a function. Imports under `if TYPE_CHECKING:` are no arrows; `--types` lists them. The
public face of a package (see `source`) is left out: it may import all, and all may import it.
The exit code is 1 when there is a circle of rooms or modules, an arrow back up, or too many rooms.

An arrow back up is, in `transport`, one to a higher layer of LAYERS; in `vswitch`, whose floors are
computed, one within a circle of rooms.
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.structure.source import PACKAGES, module_name, room_of, sources

LAYERS: tuple[tuple[str, ...], ...] = (  # the rooms of transport, the lowest first
    ("constants", "errors", "stats", "ratelimit", "emulation", "platform"),
    ("wire",),
    ("crypto",),
    ("congestion",),
    ("path",),
    ("lanes",),
    ("session",),
    ("handshake",),
    ("endpoint",),
    ("testing",),
)
MOST_ROOMS = {"vswitch": 31, "transport": 16}
MOST_LOOSE = {"vswitch": 10}

Edges = dict[str, set[str]]


@dataclass(frozen=True)
class Import:
    """One module imported by another, and where."""

    importer: str
    imported: str
    place: str
    typing: bool = False  # under `if TYPE_CHECKING:`


@dataclass(frozen=True)
class Package:
    """The graph of one package, its public face left out."""

    name: str
    modules: Edges
    rooms: Edges
    places: Mapping[tuple[str, str], list[str]]  # by arrow between rooms


def read(root: Path) -> tuple[set[str], list[Import]]:
    """All modules of the packages, and each import of one by another."""
    paths = {module_name(path, root): path for name in PACKAGES for path in sources(root, name)}
    imports: dict[Import, None] = {}  # in order; a statement may name a module several times
    for module, path in paths.items():
        for node, typing in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _targets(node, module, is_folder=path.name == "__init__.py"):
                while name and name not in paths:  # what is no module is a name in one, or outside
                    name = name.rpartition(".")[0]
                if name and name != module:
                    place = f"{path.relative_to(root).as_posix()}:{node.lineno}"
                    imports[Import(module, name, place, typing)] = None
    return set(paths), list(imports)


def _statements(
    node: ast.AST, typing: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """The import statements in a tree, each with whether only type checkers see it."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, typing
    elif isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
        for child in node.body:
            yield from _statements(child, True)
        for child in node.orelse:
            yield from _statements(child, typing)
    else:
        for inner in ast.iter_child_nodes(node):
            yield from _statements(inner, typing)


def _targets(node: ast.Import | ast.ImportFrom, module: str, *, is_folder: bool) -> Iterator[str]:
    """What a statement may import, as absolute names; the last part may be no module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = [node.module] if node.module else []
    if node.level:
        parts = module.split(".")
        base = parts[: len(parts) + is_folder - node.level] + base
    yield from (".".join([*base, alias.name]) for alias in node.names)


def draw(package: str, modules: Iterable[str], imports: Iterable[Import]) -> Package:
    """The graph of one package, from those imports that stay within it and are arrows."""
    inside = {
        module: room_of(module) for module in modules if room_of(module).startswith(f"{package}.")
    }
    drawn = Package(
        package,
        {module: set() for module in inside},
        {room: set() for room in inside.values()},
        defaultdict(list),
    )
    for each in imports:
        if each.typing or each.importer not in inside or each.imported not in inside:
            continue
        drawn.modules[each.importer].add(each.imported)
        here, there = inside[each.importer], inside[each.imported]
        if here != there:
            drawn.rooms[here].add(there)
            drawn.places[here, there].append(each.place)
    return drawn


def circles(edges: Edges) -> list[list[str]]:
    """The strongly connected components of more than one node."""
    reach = {node: _reachable(edges, node) for node in edges}
    found = {frozenset(other for other in reach[node] if node in reach[other]) for node in edges}
    return sorted(sorted(circle) for circle in found if len(circle) > 1)


def _reachable(edges: Edges, start: str) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        for node in edges[ahead.pop()] - reached:
            reached.add(node)
            ahead.append(node)
    return reached


def floors(edges: Edges) -> list[list[str]]:
    """The nodes by floor: each stands one above the highest that it imports, a circle on one."""
    together = {node: frozenset(circle) for circle in circles(edges) for node in circle}

    @cache
    def floor(nodes: frozenset[str]) -> int:
        below = set[str]().union(*(edges[node] for node in nodes)) - nodes
        return max((floor(together.get(node, frozenset((node,)))) + 1 for node in below), default=0)

    levels: defaultdict[int, list[str]] = defaultdict(list)
    for node in sorted(edges):
        levels[floor(together.get(node, frozenset((node,))))].append(node)
    return [levels[level] for level in sorted(levels)]


def faults(package: Package, loose: set[str]) -> Iterator[str]:
    """What is out of order in a package, in plain words."""
    name = package.name
    if len(package.rooms) > MOST_ROOMS[name]:
        yield f"{name} has {len(package.rooms)} rooms, more than {MOST_ROOMS[name]}"
    if name in MOST_LOOSE and len(loose) > MOST_LOOSE[name]:
        yield f"{name} has {len(loose)} loose modules, more than {MOST_LOOSE[name]}"
    in_circle: dict[str, int] = {}
    for number, circle in enumerate(circles(package.rooms)):
        in_circle |= dict.fromkeys(circle, number)
        yield f"circle of rooms: {' '.join(circle)}"
    for circle in circles(package.modules):
        yield f"circle of modules: {' '.join(circle)}"
    layer = {f"transport.{room}": level for level, rooms in enumerate(LAYERS) for room in rooms}
    if name == "transport":
        for room in sorted(package.rooms.keys() - layer.keys()):
            yield f"{room} has no layer"
    for (here, there), places in sorted(package.places.items()):
        if name == "transport":
            back = here in layer and there in layer and layer[there] > layer[here]
        else:
            back = here in in_circle and in_circle[here] == in_circle.get(there)
        if back:
            yield f"arrow back up: {here} -> {there} ({', '.join(places)})"


def loose_modules(root: Path, package: str) -> set[str]:
    return {path.stem for path in (root / package).glob("*.py")} - {"__init__", "__main__"}


def judge(root: Path) -> list[str]:
    """All that is out of order in a checkout."""
    modules, imports = read(root)
    found = [
        f"transport imports vswitch ({each.place})"
        for each in imports
        if each.importer.split(".")[0] == "transport" and each.imported.split(".")[0] == "vswitch"
    ]
    for name in PACKAGES:
        found += faults(draw(name, modules, imports), loose_modules(root, name))
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", action="store_true", help="list what only type checkers import")


def run(args: argparse.Namespace) -> int:
    modules, imports = read(args.root)
    for name in PACKAGES:
        package = draw(name, modules, imports)
        levels = floors(package.rooms)
        print(
            f"{name}: {len(package.rooms)} rooms, {len(loose_modules(args.root, name))} of them "
            f"loose modules; {len(package.modules)} modules; {len(package.places)} arrows between "
            f"rooms; {len(levels)} floors"
        )
        for level, rooms in reversed(list(enumerate(levels))):
            print(f"  floor {level}: {' '.join(room.removeprefix(f'{name}.') for room in rooms)}")
    if args.types:
        for each in imports:
            if each.typing:
                print(f"only for types: {each.importer} -> {each.imported} ({each.place})")
    found = judge(args.root)
    for fault in found:
        print(fault, file=sys.stderr)
    return int(bool(found))
