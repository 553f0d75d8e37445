"""AES-GCM only where the processor has AES."""

import pytest

from transport.crypto import noise as suite
from transport.wire.datagrams import Suite


@pytest.fixture(autouse=True)
def forget():
    suite.preferred_suite.cache_clear()
    yield
    suite.preferred_suite.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 aes avx\n", Suite.AESGCM),
        ("processor : 0\nflags\t\t: fpu sse2 avx\n", Suite.CHACHAPOLY),
        ("Features\t: fp asimd aes pmull\n", Suite.AESGCM),
        ("Features\t: fp asimd\n", Suite.CHACHAPOLY),
        ("model name : aes\nflags : vaes_only\n", Suite.CHACHAPOLY),
        ("", Suite.CHACHAPOLY),
    ],
    ids=["x86-with", "x86-without", "arm-with", "arm-without", "other-lines", "empty"],
)
def test_the_suite_follows_the_aes_flag_of_the_processor(monkeypatch, tmp_path, text, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    monkeypatch.setattr(suite, "Path", lambda _: cpuinfo)
    assert suite.preferred_suite() is expected


def test_where_it_cannot_be_read(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "Path", lambda _: tmp_path / "missing")
    assert suite.preferred_suite() is Suite.CHACHAPOLY


def test_the_processor_flags_are_read_once(monkeypatch, tmp_path):
    first = suite.preferred_suite()
    monkeypatch.setattr(suite, "Path", lambda _: tmp_path / "missing")
    assert suite.preferred_suite() is first
