"""What MkDocs is told beside mkdocs.yml: the README is the first page, each decision is in the
navigation, and links out of docs/ keep their words alone, as what they lead to is in the repository
and not on the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https:|#)([^)#]*)(#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """Put every decision into the navigation."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    (development,) = (part["Development"] for part in config.nav if "Development" in part)
    (decisions,) = (part for part in development if isinstance(part, dict))
    decisions["Decisions"] = [f"decisions/{page.name}" for page in pages]
    decisions["Decisions"].insert(0, "decisions/README.md")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file of docs/ is."""
    readme = rebased((ROOT / "README.md").read_text())
    files.append(File.generated(config, "index.md", content=readme))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Take the links out that lead out of docs/."""
    return inside(markdown, page.file.src_uri)


def rebased(text: str) -> str:
    """The README as a page of docs/: each path as seen from there."""

    def link(found: re.Match[str]) -> str:
        mark, words, path, anchor = found.groups()
        return f"{mark}[{words}]({posixpath.relpath(path, 'docs')}{anchor or ''})"

    return _LINK.sub(link, text)


def inside(text: str, place: str) -> str:
    """The text of the page at `place` below docs/: of what is above, the README alone is a page."""

    def link(found: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(place), found[3]))
        if there == "../README.md":
            here = posixpath.dirname(place) or "."
            return f"[{found[2]}]({posixpath.relpath('index.md', here)}{found[4] or ''})"
        return found[2] if there.startswith("..") else found[0]

    return _LINK.sub(link, text)
