"""The documents build as a site, and what is built asks nobody else for anything."""

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vswitch.api.routes import SWITCH
from vswitch.cli.common import SUMMARIES
from vswitch.errors import ExitCode
from vswitch.management.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "packaging" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs mkdocs-material: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "-q", "--strict"),
            *("-f", str(SITE / "mkdocs.yml"), "-d", str(folder)),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for page in pages:
        built = site / page.with_suffix(".html")
        assert (built.with_name("index.html") if page.name == "README.md" else built).exists(), page
    assert "virtual Ethernet switch" in (site / "index.html").read_text()


def test_a_page_loads_nothing_from_elsewhere(site):
    loaded = r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"|<link\b[^>]*\bhref="([^"]+)"'
    for page in site.rglob("*.html"):
        for names in re.findall(loaded, page.read_text()):
            assert not re.match(r"(?:https?:)?//", "".join(names)), (page.name, names)


def test_links_out_of_the_documents_keep_their_words(site):
    text = (site / "security.html").read_text()
    assert "SECURITY.md" in text
    assert 'href="../' not in text


def words(site: Path, page: str) -> str:
    """What a page of the reference says, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", (site / "reference" / page).read_text()))


def test_the_reference_has_all_that_the_program_has(site):
    commands = words(site, "commands.html")
    assert all(f"usage: vswitch {name} " in commands for name in SUMMARIES)
    api = words(site, "api.html")
    assert all(f"{row.method} {row.path}\n" in api for row in SWITCH.rows)
    metrics = words(site, "metrics.html")
    assert all(metric.name in metrics and metric.help in metrics for metric in METRICS)
    codes = words(site, "exit-codes.html")
    assert all(name in codes for name in vars(ExitCode) if name.isupper())
