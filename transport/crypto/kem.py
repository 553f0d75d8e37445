"""ML-KEM-768 (FIPS 203) of `cryptography`: the part of a handshake that a quantum computer does
not undo. Who has it and who insists on it.

The initiator sends an encapsulation key (1,184 bytes), the responder answers with a ciphertext
(1,088 bytes), and both then share 32 bytes. `cryptography` has it from 47 on, where its OpenSSL
does (3.5; its own wheels do), so what is here may be missing: `post_quantum_missing` says why.

Error contract: `*_untrusted` raise `BadPacket("bad_handshake")` and nothing else. A ciphertext that
was not made for this key gives 32 other bytes and no error (FIPS 203 section 7.3): what is sealed
with them does not open.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import TYPE_CHECKING, Final, Self

from transport.errors import BadPacket, TransportError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

KEM_KEY_BYTES: Final = 1184  # the encapsulation key, which is public
KEM_CIPHERTEXT_BYTES: Final = 1088
NEEDED: Final = "cryptography 47 or newer, built with OpenSSL 3.5 or newer"


class PostQuantum(enum.Enum):
    """What a side wants of a handshake; both are asked, and the stricter one decides."""

    REQUIRE = "require"  # no session without
    AUTO = "auto"  # with it, unless the other side cannot
    OFF = "off"  # neither offered nor taken


@cache
def post_quantum_missing() -> str | None:
    """Why there is no ML-KEM-768 here; None where there is."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    except ImportError:
        import cryptography

        return f"cryptography {cryptography.__version__} has no ML-KEM-768: it takes {NEEDED}"
    try:
        MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        return f"the OpenSSL of cryptography has no ML-KEM-768: it takes {NEEDED}"
    return None


def usable_post_quantum(wanted: PostQuantum) -> PostQuantum:
    """What can be had of that: `AUTO` becomes `OFF` where ML-KEM-768 is missing.

    Raises:
        TransportError: it is required and missing.
    """
    if wanted is PostQuantum.OFF or post_quantum_missing() is None:
        return wanted
    if wanted is PostQuantum.REQUIRE:
        raise TransportError(f"post-quantum handshakes are required, and {post_quantum_missing()}")
    return PostQuantum.OFF


class KemPrivateKey:
    """An ephemeral key pair of the initiator, for one handshake."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes | None = None) -> None:
        """`seed`: 64 bytes (d and z of FIPS 203), for tests with known answers only."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        make = MLKEM768PrivateKey
        self._key = make.generate() if seed is None else make.from_seed_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()  # 1,184 bytes

    def decapsulate_untrusted(self, ciphertext: bytes) -> bytes:
        """The 32 shared bytes of a ciphertext."""
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError:
            raise BadPacket("bad_handshake") from None


class KemPublicKey:
    """The encapsulation key of somebody else."""

    __slots__ = ("_key",)

    def __init__(self, key: MLKEM768PublicKey) -> None:
        self._key = key

    @classmethod
    def from_raw_untrusted(cls, raw: bytes) -> Self:
        """The key in these bytes, if they are one (all coefficients below q; FIPS 203, 7.2)."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

        try:
            return cls(MLKEM768PublicKey.from_public_bytes(raw))
        except ValueError:
            raise BadPacket("bad_handshake") from None

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A ciphertext (1,088 bytes) for its owner, and the secret (32) in it."""
        secret, ciphertext = self._key.encapsulate()
        return ciphertext, secret
