"""Finds the files of the packages, names their modules and rooms, and tells code from the rest.

A *room* is a first-level folder or a loose module of a package. The package's own `__init__` and
`__main__` are its public face, and bear the name of the package.
"""

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("vswitch", "transport")

_NO_CODE = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

Position = tuple[int, int]


def directory(text: str) -> Path:
    """An argument that names a checkout; one without the packages would measure as nothing."""
    root = Path(text)
    for package in PACKAGES:
        if not (root / package).is_dir():
            raise argparse.ArgumentTypeError(f"{text} has no {package}")
    return root


def sources(root: Path, package: str) -> list[Path]:
    """The Python files of a package."""
    return sorted((root / package).rglob("*.py"))


def module_name(path: Path, root: Path) -> str:
    """The dotted name under which the file is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a module is in or is; the package itself for its public face."""
    parts = module.split(".")[:2]
    return parts[0] if parts[-1] == "__main__" else ".".join(parts)


def code_lines(source: str, *, imports: bool = True) -> list[tuple[int, str]]:
    """Number and text of each line of code: no blanks, comments or docstrings, whitespace folded.

    Lines of a string that spans several count where they are not blank.
    """
    tree = ast.parse(source)
    text = io.StringIO(source).readlines()
    docstrings = list(_docstrings(tree, text))
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0] - 1
            text[line] = text[line][: token.start[1]]
        elif token.type not in _NO_CODE and not (
            token.type == tokenize.STRING
            and any(start <= token.start < end for start, end in docstrings)
        ):
            numbers.update(range(token.start[0], token.end[0] + 1))
    if not imports:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                numbers.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    folded = ((number, " ".join(text[number - 1].split())) for number in sorted(numbers))
    return [(number, line) for number, line in folded if line]


def _docstrings(tree: ast.Module, text: list[str]) -> Iterator[tuple[Position, Position]]:
    """Where each docstring begins and ends, in characters as tokens count them (ast: in bytes)."""

    def column(line: int, offset: int) -> int:
        return len(text[line - 1].encode()[:offset].decode())

    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str()) as string), *_]:
                end = string.end_lineno or 0
                yield (
                    (string.lineno, column(string.lineno, string.col_offset)),
                    (end, column(end, string.end_col_offset or 0)),
                )
