import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.structure.source import PACKAGES

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a checkout of these files, both packages with a public face."""

    def make(files: dict[str, str], name: str = "checkout") -> Path:
        root = tmp_path / name
        faces = {f"{each}/__init__.py": "" for each in PACKAGES}
        for path, source in (faces | files).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(textwrap.dedent(source), encoding="utf-8")
        return root

    return make
