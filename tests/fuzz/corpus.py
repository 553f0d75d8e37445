"""The files of the corpus: one input each, in a folder for each target.

`python -m tests.fuzz --seeds` writes those that the encoders make; `--save` adds what was found.
"""

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def files(target: str) -> list[Path]:
    return sorted(path for path in (CORPUS / target).glob("*") if path.is_file())


def inputs(target: str) -> list[bytes]:
    return [path.read_bytes() for path in files(target)]


def save(folder: Path, kind: str, data: bytes) -> Path:
    """Write an input under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}-{sha1(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def write_seeds(target: str, seeds: Sequence[tuple[str, bytes]]) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds:
        (folder / name).write_bytes(data)
