"""Known answers of the RFCs, through our wrappers: X25519, ChaCha20-Poly1305, BLAKE2s."""

from hashlib import blake2s

import pytest
from cryptography.exceptions import InvalidTag

from transport.crypto import noise as symmetric
from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NoiseInitiator, NoiseResponder, aead, nonce
from transport.errors import BadPacket
from transport.wire.datagrams import Suite


def raw(text):
    return bytes.fromhex(text)


# --- X25519, RFC 7748 ------------------------------------------------------------------------

ALICE = raw("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = raw("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = raw("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = raw("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = raw("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize(
    ("secret", "public", "theirs"),
    [(ALICE, ALICE_PUBLIC, BOB_PUBLIC), (BOB, BOB_PUBLIC, ALICE_PUBLIC)],
)
def test_agreement_of_section_6_1(secret, public, theirs):
    key = PrivateKey.from_raw(secret)
    assert key.public.raw == public
    assert key.exchange(theirs) == SHARED
    assert key.exchange_untrusted(theirs) == SHARED
    assert key.raw() == secret


def test_iterations_of_section_5_2():
    scalar = point = b"\x09" + bytes(31)
    for step in range(1000):
        scalar, point = PrivateKey.from_raw(scalar).exchange_untrusted(point), scalar
        if step == 0:
            assert scalar == raw("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    assert scalar == raw("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")


# --- Low-order points: the seven of WireGuard's netns.sh, in both messages --------------------

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    raw("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    raw("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("top_bit", [0x00, 0x80])  # X25519 ignores it, so it must not hide one
def test_low_order_ephemerals_are_refused(point, top_bit):
    point = point[:-1] + bytes([point[-1] | top_bit])
    server = PrivateKey.from_raw(BOB)
    with pytest.raises(BadPacket, match="low_order_point"):
        NoiseResponder(server, Suite.CHACHAPOLY).read_static_untrusted(point + bytes(200))
    initiator = NoiseInitiator(PrivateKey.from_raw(ALICE), BOB_PUBLIC, Suite.CHACHAPOLY)
    initiator.write_message_1(b"")
    with pytest.raises(BadPacket, match="low_order_point"):
        initiator.read_message_2_untrusted(point + bytes(16))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_static_is_refused_although_it_opens(point):
    # Whoever knows the server's key can seal any 32 bytes as its static key.
    ephemeral, server = PrivateKey.from_raw(ALICE), PrivateKey.from_raw(BOB)
    state = symmetric.SymmetricState(Suite.CHACHAPOLY, "IKpsk1", b"")
    state.mix_hash(BOB_PUBLIC)
    state.mix_hash(ALICE_PUBLIC)
    state.mix_key(ALICE_PUBLIC)
    state.mix_key(ephemeral.exchange(BOB_PUBLIC))
    responder = NoiseResponder(server, Suite.CHACHAPOLY)
    assert responder.read_static_untrusted(ALICE_PUBLIC + state.seal(point) + bytes(16)) == point
    with pytest.raises(BadPacket, match="low_order_point"):
        responder.read_payload_untrusted()


# --- ChaCha20-Poly1305, RFC 8439 appendix A.5: its nonce is one of ours, counter 0x08...01 ----

KEY = raw("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
NONCE = raw("000000000102030405060708")
ASSOCIATED = raw("f33388860000000000004e91")
TAG = raw("eead9d67890cbb22392336fea1851f38")
CIPHERTEXT = raw(
    "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2"
    "4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf"
    "332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855"
    "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4"
    "b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e"
    "af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a"
    "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10"
    "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29"
    "a6ad5cb4022b02709b"
)
PLAINTEXT = (
    "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, "
    "replaced, or obsoleted by other documents at any time. It is inappropriate to use "
    "Internet-Drafts as reference material or to cite them other than as "
    "/\N{LEFT DOUBLE QUOTATION MARK}work in progress./\N{RIGHT DOUBLE QUOTATION MARK}"
).encode()


def test_chacha20_poly1305_with_our_nonce():
    stamp = nonce(Suite.CHACHAPOLY, 0x0807060504030201)
    assert stamp == NONCE
    cipher = aead(Suite.CHACHAPOLY, KEY)
    assert cipher.decrypt(stamp, CIPHERTEXT + TAG, ASSOCIATED) == PLAINTEXT
    assert cipher.encrypt(stamp, PLAINTEXT, ASSOCIATED) == CIPHERTEXT + TAG
    with pytest.raises(InvalidTag):
        cipher.decrypt(nonce(Suite.CHACHAPOLY, 0), CIPHERTEXT + TAG, ASSOCIATED)


# --- AES-256-GCM with a nonce of ours: the GCM specification's test cases 13 and 14 -----------


def test_aes_256_gcm_with_our_nonce():
    cipher, stamp = aead(Suite.AESGCM, bytes(32)), nonce(Suite.AESGCM, 0)
    assert cipher.encrypt(stamp, b"", b"") == raw("530f8afbc74536b9a963b4f1c4cb738b")
    assert cipher.encrypt(stamp, bytes(16), b"") == raw(
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    )


# --- BLAKE2s, RFC 7693 and the reference implementation's keyed test file ---------------------


def test_blake2s_of_rfc_7693_appendix_b():
    assert blake2s(b"abc").digest() == raw(
        "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    )


def test_blake2s_keyed():
    assert blake2s(b"", key=bytes(range(32))).digest() == raw(
        "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49"
    )
