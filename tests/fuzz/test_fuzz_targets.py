"""The corpus again, a bounded search from it, and that no function of outside bytes is left out.

What is known to fail is named in `KNOWN`: whoever mends it takes the line out.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fuzz import corpus, untrusted
from tests.fuzz.__main__ import main
from tests.fuzz.mutate import search
from tests.fuzz.targets import PLANTED, TARGETS

KNOWN = {
    "session": "finding 1: the highest counters under two keys end the endpoint (OverflowError)",
    "records": "finding 2: sparse messages are kept above the channel while bulk never ends",
    "switch": "finding 21: an empty batch at a port with a rate (IndexError); and the next line",
    "switch/finding-reports-twice": (
        "group reports that an impairment has doubled are one object twice: _Listening.take, which"
        " goes by id(record), counts them once"
    ),
}


def known(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=KNOWN[name], strict=True)] if name in KNOWN else []


def cases() -> Iterator[pytest.ParameterSet]:
    for name in TARGETS:
        for path in corpus.files(name):
            marks = []
            if path.name.startswith("finding-"):
                place = f"{name}/{path.name}"
                marks = known(place if place in KNOWN else name)
            yield pytest.param(name, path, id=f"{name}-{path.name}", marks=marks)


@pytest.mark.parametrize(("name", "path"), list(cases()))
def test_the_corpus_again(name, path):
    TARGETS[name].run(path.read_bytes())


@pytest.mark.parametrize("name", [pytest.param(each, marks=known(each)) for each in TARGETS])
def test_search(name):
    target, tried = TARGETS[name], []
    number = search(target.run, corpus.inputs(name), 8, tried.append, target.iterations.__gt__)
    assert number == target.iterations


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_what_the_encoders_make(name):
    """And small; other files may be beside these."""
    for seed, data in TARGETS[name].seeds():
        kept = (corpus.CORPUS / name / seed).read_bytes()
        assert kept == data, "encoders say it differently now: python -m tests.fuzz --seeds"
    assert sum(map(len, corpus.inputs(name))) < 50_000


@contextmanager
def entered() -> Iterator[set[str]]:
    """The functions of untrusted bytes that are called meanwhile."""
    codes, called = untrusted.codes(), set()

    def note(frame, event, arg):
        if event == "call" and frame.f_code in codes:
            called.add(codes[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


def test_every_function_of_untrusted_bytes_is_reached():
    """A new one belongs to a target: with an input of the corpus that gets there."""
    with entered() as called:
        for name, target in TARGETS.items():
            for path in corpus.files(name):
                try:
                    target.run(path.read_bytes())
                except Exception:
                    assert path.name.startswith("finding-")
    missing = sorted(untrusted.untrusted().keys() - called)
    assert not missing, "no target reaches these: extend one, and its seeds\n" + "\n".join(missing)


def test_a_missing_target_would_be_noticed():
    with entered() as called:
        TARGETS["decoders"].run(b"\0\0")
    assert 0 < len(called) < 5


@pytest.mark.parametrize("guided", [True, False])
def test_what_is_found_is_told_and_can_be_replayed(tmp_path, capsys, monkeypatch, guided):
    """In a child process, with a fault that was planted."""
    if guided:
        pytest.importorskip("atheris")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(corpus, "CORPUS", tmp_path / "corpus")
    command = ["--target", "planted", "--out", str(tmp_path / "out"), "--minutes", "1"]
    assert main([*command, "--save"]) == 1
    said = capsys.readouterr().out
    assert ("NOT guided by coverage: atheris is not installed" in said) is not guided
    assert "a planted fault" in said
    again = said.split("--replay ")[1].split()[0]
    assert main(["--replay", again]) == 1
    assert "still fails" in capsys.readouterr().out
    (kept,) = corpus.files("planted")
    assert main(["--replay", str(kept)]) == 1
    harmless = corpus.save(tmp_path / "planted", "harmless", b"\0")
    assert main(["--replay", str(harmless)]) == 0


def test_the_search_finds_what_is_planted_and_the_same_each_time():
    found = []
    for _ in range(2):
        tried = []
        with pytest.raises(AssertionError, match="a planted fault"):
            search(PLANTED["planted"].run, [bytes(5)], 8, tried.append, (100_000).__gt__)
        found.append(tried)
    assert found[0] == found[1]
