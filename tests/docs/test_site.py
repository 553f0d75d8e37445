"""The documents build as a site, and what is built asks nobody else for anything."""

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from vswitch.api.member import MEMBER
from vswitch.api.routes import SWITCH
from vswitch.cli.common import SUMMARIES
from vswitch.config.options import TABLES, ExecConfig, JoinConfig, ProxyConfig, ServeConfig
from vswitch.config.sources import Option, keys_of
from vswitch.errors import ExitCode
from vswitch.features.settings import PortSettings
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
    assert all(f"{row.method} {row.path}\n" in api for row in (*SWITCH.rows, *MEMBER.rows))
    assert "One lease by DHCP." in api
    assert "that an impairment delays now" in api  # PortStatus.held_frames
    metrics = words(site, "metrics.html")
    assert all(metric.name in metrics and metric.help in metrics for metric in METRICS)
    codes = words(site, "exit-codes.html")
    assert all(name in codes for name in vars(ExitCode) if name.isupper())


def sections(text: str) -> dict[str, str]:
    """What stands under each title of the second level."""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("mkdocs", reason="needs mkdocs-material: pip install '.[docs]'")
    spec = importlib.util.spec_from_file_location("reference", SITE / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_of_a_file_is_in_the_reference_with_its_keys(reference):
    told = sections(reference.configuration())
    named = {re.sub(r"\.NAME|[\[\]]", "", title) for title in told}
    assert named == set(TABLES)
    wanted = {f"[{name}]": keys for name, keys in keys_of(ServeConfig, "serve").items()}
    wanted["[join]"] = keys_of(JoinConfig, "join")["join"]
    for name, cls in (("exec", ExecConfig), ("proxy", ProxyConfig)):
        wanted[f"[{name}]"] = keys_of(cls, name)[name].keys() - wanted["[join]"].keys()
    for title, keys in wanted.items():
        assert keys
        assert all(f"| **`{key}`**<br>" in told[title] for key in keys), title
    (mtu,) = re.findall(r"^\| \*\*`mtu`.*$", told["[serve]"], re.M)
    told_of_mtu = (
        "**`mtu`**<br>`--mtu`<br>`VSWITCH_MTU` | whole number: `BYTES` | `1500` | restart |"
    )
    assert told_of_mtu in mtu
    (public,) = re.findall(r"^\| \*\*`public`.*$", told["[serve]"], re.M)
    assert "| reload |" in public
    (accepted,) = re.findall(r"^\| \*\*`accept_routes`.*$", told["[join]"], re.M)
    assert "| PUT |" in accepted
    (idle,) = re.findall(r"^\| `idle` .*$", told["[[publish]]"], re.M)
    assert "| time | `3h` |" in idle


def test_a_key_that_nothing_is_said_of_ends_the_build(reference):
    @attrs.frozen
    class WithSilence(PortSettings):
        silent_key: bool = attrs.field(default=False, metadata={"option": Option("")}, kw_only=True)

    with pytest.raises(KeyError, match="silent_key"):
        reference.settings(WithSilence)


def test_every_counter_is_in_the_reference(reference, monkeypatch, tmp_path):
    told = sections(reference.counters())
    operations = (ROOT / "docs" / "operations.md").read_text()
    for title in ("Counters", "Proxy", "Publish a service", "Foreign ports", "The API"):
        for name, text in re.findall(
            r"^\| `(\w+)` \| ([^|]*) \|$", sections(operations)[title], re.M
        ):
            text = text.replace("](#", "](../operations.md#")
            assert re.search(rf"^\| `{name}` \| .* \| {re.escape(text)} \|$", told["Drops"], re.M)
    assert "| `rx_frames` |" in told["Counts of a port"]
    without = tmp_path / "operations.md"
    without.write_text(re.sub(r"^\| `bad_seal` .*\n", "", operations, flags=re.M))
    monkeypatch.setattr(reference, "OPERATIONS", without)
    with pytest.raises(KeyError, match="bad_seal"):
        reference.counters()
