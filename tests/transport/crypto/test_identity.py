"""Keys: text form, agreement, and what they never show."""

import base64

import pytest

from transport.crypto.identity import PrivateKey, PublicKey
from transport.errors import BadPacket

# Points of small order: the seven that WireGuard's netns.sh feeds to the kernel.
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


def test_public_key_text_round_trip():
    key = PrivateKey.generate().public
    assert len(key.text()) == 44
    assert PublicKey.from_text(f"  {key.text()}\n") == key
    assert hash(PublicKey.from_text(key.text())) == hash(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        "A" * 44,  # 33 bytes
        "*" + "A" * 42 + "=",
        "A" * 42 + "B=",  # bits behind the last byte are set: a second spelling
        "A" * 41 + "===",
        "-" * 43 + "=",  # URL-safe alphabet
        "é" * 43 + "=",
        "A" * 43 + "=A",
    ],
)
def test_public_key_text_is_strict(text):
    with pytest.raises(ValueError, match="public key"):
        PublicKey.from_text(text)


def test_errors_do_not_quote_what_may_be_a_secret():
    secret = base64.b64encode(b"\x13" * 32).decode()
    with pytest.raises(ValueError) as caught:
        PublicKey.from_text(secret + "!")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), bytearray(32), "x" * 32])
def test_public_key_must_be_32_bytes(raw):
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey(raw)


def test_fingerprint_is_short_stable_and_lower_case():
    # Computed once with another BLAKE2s: people write fingerprints down, they must not change.
    assert PublicKey(bytes(32)).fingerprint() == "gifv5km6"
    assert PublicKey(bytes(31) + b"\x01").fingerprint() != "gifv5km6"


def test_private_key_round_trip_and_agreement():
    ours, theirs = PrivateKey.generate(), PrivateKey.generate()
    again = PrivateKey.from_raw(ours.raw())
    assert again.public == ours.public
    assert again.exchange(theirs.public.raw) == theirs.exchange(ours.public.raw)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_private_key_must_be_32_bytes(size):
    with pytest.raises(ValueError, match="32 bytes"):
        PrivateKey.from_raw(bytes(size))


def test_repr_shows_no_secret():
    key = PrivateKey.from_raw(b"\x42" * 32)
    text = f"{key!r} {key!s} {key}"
    assert key.public.fingerprint() in text
    for secret in (base64.b64encode(key.raw()).decode(), key.raw().hex(), "BBBB", "\\x42"):
        assert secret not in text


def test_repr_of_a_public_key_is_its_text():
    key = PrivateKey.generate().public
    assert repr(key) == f"PublicKey('{key.text()}')"


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_points_are_refused(point):
    key = PrivateKey.generate()
    with pytest.raises(BadPacket, match="low_order_point"):
        key.exchange_untrusted(point)
    with pytest.raises(ValueError, match="low_order_point"):
        key.exchange(point)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_exchange_refuses_other_sizes(size):
    with pytest.raises(BadPacket, match="bad_handshake"):
        PrivateKey.generate().exchange_untrusted(b"\x09" * size)
