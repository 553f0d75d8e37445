"""Breadth first through all states up to a depth, from a beginning."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import Factory, define

from tests.model.world import KINDS, SWITCH, Action, Violation, World

_CONNECTED = ("connect", "init", "response", "client control")
_SLICED = ("connect", "short", "init", "response", "init slice", "cookie", "init slice")
# Where a search begins: what has happened. A name stands for itself, a kind of datagram for the
# delivery of the newest of it, from where it came or elsewhere; `client`: of what the client sent.
ROOTS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "asked": ("connect",),
    "half-open": ("connect", "init"),
    "agreed": ("connect", "init", "response"),
    "asked twice": ("connect", "short"),
    "sent back": ("connect", "short", "init", "response"),
    "in slices": _SLICED,
    "in slices, half-open": (*_SLICED, "init slice", "init slice"),
    "in slices, agreed": (*_SLICED, "init slice", "init slice", *["response slice"] * 3),
    "connected": _CONNECTED,
    "said": (*_CONNECTED, "say"),
    "rekey": (*_CONNECTED, "short", "renew"),
    "rekey half-open": (*_CONNECTED, "short", "renew", "init"),
    "rekey agreed": (*_CONNECTED, "short", "renew", "init", "response"),
    "connecting again": (*_CONNECTED, "short", "connect", "init", "response"),
    "moved": (*_CONNECTED, "move", "say"),
    "moved, challenged": (*_CONNECTED, "move", "say", "datagram"),
    "challenged": (*_CONNECTED, "say", "datagram from elsewhere"),
    "restarted": (*_CONNECTED, "restart", "say"),
    "reset": (*_CONNECTED, "restart", "say", "datagram", "reset"),
}


@define
class Found:
    """What a search has come to."""

    states: int = 0  # different ones, the beginning included
    steps: int = 0  # actions tried
    by_depth: Counter[int] = Factory(Counter)  # states first seen after so many actions
    done: Counter[str] = Factory(Counter)  # actions that led to a new state, by name
    complete: bool = True  # no limit of states was met


class Trace(AssertionError):
    """A violation, and how it came about."""


def explore(root: str, depth: int, most: int, make: Callable[[], World] = World) -> Found:
    """All states that `depth` actions lead to from a beginning, at most so many; `Trace` for a
    violation in any of them, or if the honest do not get together from one.
    """
    begun = begin(root, make)
    found = Found()
    seen = {begun.state()}
    prefix = tuple(begun.done)
    found.states = found.by_depth[0] = 1
    todo: deque[tuple[tuple[Action, ...], list[Action]]] = deque([((), begun.actions())])
    with _traced(begun):
        begun.recover()
    while todo:
        way, actions = todo.popleft()
        for action in actions:
            if found.states >= most:
                found.complete = False
                return found
            world = make()
            for each in (*prefix, *way):
                world.do(each)
            found.steps += 1
            with _traced(world):
                world.do(action)
            state = world.state()
            if state in seen:
                continue
            seen.add(state)
            found.states += 1
            found.by_depth[len(way) + 1] += 1
            found.done[str(action[0])] += 1
            if len(way) + 1 < depth:
                todo.append(((*way, action), world.actions()))
            with _traced(world):
                world.recover()
    return found


def begin(root: str, make: Callable[[], World]) -> World:
    world = make()
    for name in ROOTS[root]:
        world.do(_action(world, name))
    return world


def _action(world: World, said: str) -> Action:
    name = said.removeprefix("client ").removesuffix(" from elsewhere")
    alike = [each for each in world.pool if KINDS[each.kind] == name]
    if not alike:
        return (said,)
    if said != name:
        alike = [each for each in alike if each.to == SWITCH]
    fresh = [each for each in alike if not each.delivered]
    return ("from elsewhere" if "elsewhere" in said else "deliver", fresh[-1].number)


@contextmanager
def _traced(world: World) -> Iterator[None]:
    try:
        yield
    except Violation as violation:
        raise Trace(f"{violation}\n  after {world.told()}") from violation
