"""The files of the page: how they are answered, and what stands in them."""

import json
import re
from pathlib import Path

import pytest

import vswitch.page
from vswitch.config.sources import options_of
from vswitch.errors import ConfigError, Problem
from vswitch.features.settings import PortSettings, SwitchSettings
from vswitch.page.files import PageFiles
from vswitch.page.qr import qr_svg
from vswitch.web.requests import Request

STATIC = Path(vswitch.page.__file__).parent / "static"
PROGRAM = STATIC.parents[1]
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


async def no_body(limit):
    return b""


def asked(path, method="GET", **headers):
    return Request(method, path, "", headers, "127.0.0.1", no_body)


async def answered(request):
    return await PageFiles().find(request)(request)


async def test_each_file_has_headers_that_let_nothing_else_in():
    names = [each.name for each in STATIC.iterdir() if each.name != "index.html"]
    for path in ["/", *(f"/page/{name}" for name in names)]:
        answer = await answered(asked(path))
        headers = dict(answer.headers)
        assert answer.status == 200
        assert answer.body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        kept = await answered(asked(path, **{"if-none-match": headers["ETag"]}))
        assert (kept.status, kept.body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/../files.py", "/page/index.html", "/page/none.js", "/page", ""]
)
def test_nothing_else_is_answered(path):
    assert PageFiles().find(asked(path)) is None


def test_only_reading_is_answered():
    assert PageFiles().find(asked("/", "POST")) is None
    assert PageFiles().find(asked("/", "HEAD")) is not None


def test_nothing_is_written_as_markup_and_nothing_comes_from_elsewhere():
    for each in STATIC.glob("*.*"):
        text = each.read_text(encoding="utf-8")
        if each.suffix == ".js":
            forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|DOMParser"
            assert not re.search(forbidden, text), each.name
        if each.suffix == ".html":
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
        addresses = set(re.findall(r"https?://[^\s\"'`]*", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, each.name


def test_every_text_is_there_in_both_languages():
    text = (STATIC / "texts.js").read_text(encoding="utf-8")
    pairs = re.findall(r"^  (\w+): (\[.*\]),$", text, re.MULTILINE)
    assert len(pairs) > 150
    known = {}
    for key, pair in pairs:
        assert key not in known
        known[key] = json.loads(pair)
        english, chinese = known[key]
        blanks = [sorted(re.findall(r"\{\w+\}", each)) for each in (english, chinese)]
        assert blanks[0] == blanks[1], key
    for each in STATIC.glob("*.js"):
        used = re.findall(r'\b(?:t|parts)\("(\w+)"', each.read_text(encoding="utf-8"))
        assert set(used) <= set(known), each.name
    settings = {*options_of(PortSettings), *options_of(SwitchSettings)}
    assert {f"set_{each}" for each in settings} <= set(known)


def test_every_refusal_has_a_text_in_both_languages_that_needs_only_its_facts():
    text = (STATIC / "texts.js").read_text(encoding="utf-8")
    said = dict(re.findall(r"^  problem_(\w+): (\[.*\]),$", text, re.MULTILINE))
    assert said.keys() == {*Problem, "no_answer"}  # the latter is of no answer at all
    for problem in Problem:
        english, chinese = json.loads(said[problem])
        assert set(re.findall(r"\{(\w+)\}", chinese)) <= {*problem.facts, "error"}, problem
        assert english
        assert re.search(r"[\u4e00-\u9fff]", chinese), problem


def test_every_refusal_is_one_of_the_program():
    source = "".join(each.read_text(encoding="utf-8") for each in PROGRAM.rglob("*.py"))
    assert [each.name for each in Problem if f"Problem.{each.name}" not in source] == []


def test_what_reasons_mean_is_what_the_documentation_says():
    text = OPERATIONS.read_text(encoding="utf-8")
    part = text[text.index("\n## Counters\n") :]
    part = part[: part.index("\n## ", 1)]
    tables = [
        dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", each, re.MULTILINE))
        for each in part.split("| Drop | Means |")[1:]
    ]
    frames = {}
    for table in tables[:3]:
        frames = {**table, **frames}
    page = (STATIC / "reasons.js").read_text(encoding="utf-8")
    for name, wanted in (("FRAMES", frames), ("DATAGRAMS", tables[3])):
        said = page[page.index(f"const {name} = ") :].partition("\n};")[0]
        rows = re.findall(r'^  (\w+): \[\n    (".*"),\n    (".*"),\n  \],$', said, re.MULTILINE)
        assert {key: json.loads(english) for key, english, _ in rows} == {
            key: _plain(value) for key, value in wanted.items()
        }
        assert all(re.search(r"[\u4e00-\u9fff]", json.loads(chinese)) for *_, chinese in rows)


def _plain(markdown):
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "").rstrip(".")


def test_a_join_string_is_an_image():
    svg = qr_svg("vsw2:" + "abcdefgh234567" * 30)
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "script" not in svg
    assert svg != qr_svg("vsw2:other")
    with pytest.raises(ConfigError, match="too long"):
        qr_svg("x" * 5000)
