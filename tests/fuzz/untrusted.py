"""All functions of the packages that see outside bytes, found by their name: `*_untrusted`."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, Protocol

import transport
import vswitch

PACKAGES = (transport, vswitch)


def _modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def _functions_of(owner: ModuleType | type) -> Iterator[FunctionType]:
    for value in vars(owner).values():
        member = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(member, FunctionType):
            if not getattr(member, "__isabstractmethod__", False):
                yield member
        elif (
            isinstance(value, type)
            and value.__module__ == getattr(owner, "__name__", None)
            and Protocol not in value.__bases__  # those say what is to be, and do nothing
        ):
            yield from _functions_of(value)


@cache
def untrusted() -> dict[str, FunctionType]:
    """By `module:qualname`."""
    found = {}
    for module in _modules():
        for function in _functions_of(module):
            if function.__name__.endswith("_untrusted") and function.__module__ == module.__name__:
                found[f"{module.__name__}:{function.__qualname__}"] = function
    return found


def find(package: str, qualname: str) -> Callable[..., Any]:
    """The one of that name, in whichever module of the package it lives."""
    matching = [
        function
        for name, function in untrusted().items()
        if name.startswith(f"{package}.") and function.__qualname__ == qualname
    ]
    assert len(matching) == 1, f"{package}: {qualname}: {matching}"
    return matching[0]


def simple() -> dict[str, FunctionType]:
    """Those that take one piece of bytes or text and nothing else: every input is one for them."""
    return {
        name: function
        for name, function in untrusted().items()
        if "." not in function.__qualname__
        and not function.__name__.startswith("_")  # its caller sees to something
        and not inspect.iscoroutinefunction(function)
        and [p.annotation for p in _needed(function)] in (["bytes"], ["str"])
    }


def takes_text(function: FunctionType) -> bool:
    return next(iter(_needed(function))).annotation == "str"


def _needed(function: FunctionType) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [each for each in parameters if each.default is inspect.Parameter.empty]


def codes() -> dict[CodeType, str]:
    """The code of each, to see which were entered."""
    return {inspect.unwrap(each).__code__: name for name, each in untrusted().items()}
