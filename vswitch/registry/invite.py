"""Join strings: what `vswitch invite` prints and `vswitch join` takes.

`vsw1:` + 96 lower-case base32 characters (RFC 4648 without padding) of server key 32 ‖ token id
8 ‖ token secret 16 ‖ check 4, + `@HOST:PORT`. The check is the first 4 bytes of BLAKE2s over
the 56 bytes and the text from `@` on, so that a slip of the pen anywhere is found before a
packet is sent. Whoever has the string can become the member once, until it expires.

Invariants: the token secret is in no repr and no message; the switch keeps only the key that is
derived from it.

Error contract: `parse_untrusted` raises `ConfigError` with the reason and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import os
from hashlib import blake2s
from typing import Self

from attrs import field, frozen
from attrs.validators import instance_of

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError

_PREFIX = "vsw1:"
_KEY_BYTES, _ID_BYTES, _SECRET_BYTES, _CHECK_BYTES = 32, 8, 16, 4
_CODE_CHARS = 96  # base32 of the 60 bytes; a multiple of 5 bytes needs no padding
_LIMIT = 512  # characters: prefix, code, and the longest host name with port
_PSK_LABEL = b"vswitch psk v1"


@frozen
class JoinString:
    """What a join string says. `server` is where the switch is, by name or address."""

    server_key: PublicKey = field(validator=instance_of(PublicKey))
    token_id: bytes
    token_secret: bytes = field(repr=False)
    server: HostPort

    @classmethod
    def new(cls, server_key: PublicKey, server: HostPort) -> Self:
        """A string with a new token from the operating system's random source."""
        return cls(server_key, os.urandom(_ID_BYTES), os.urandom(_SECRET_BYTES), server)

    @property
    def psk(self) -> bytes:
        """The 32-byte pre-shared key of the handshake, derived from the token secret."""
        return blake2s(_PSK_LABEL, key=self.token_secret, digest_size=32).digest()

    def encode(self) -> str:
        """The text form."""
        body = self.server_key.raw + self.token_id + self.token_secret
        where = f"@{self.server.text()}"
        code = base64.b32encode(body + _check(body, where)).decode("ascii").lower()
        return f"{_PREFIX}{code}{where}"

    @classmethod
    def parse_untrusted(cls, text: str) -> Self:
        """Read what somebody typed or pasted; surrounding white space is ignored.

        Raises:
            ConfigError: it is no join string, or not the one that was printed.
        """
        text = text.strip()
        if not text.startswith(_PREFIX):
            raise _wrong(f"it does not begin with {_PREFIX!r}")
        if len(text) > _LIMIT:
            raise _wrong(f"it is longer than {_LIMIT} characters")
        code, at, address = text.removeprefix(_PREFIX).partition("@")
        if not at:
            raise _wrong("the part from '@' on, host and port, is missing")
        if len(code) != _CODE_CHARS:
            raise _wrong(f"it has {len(code)} characters between ':' and '@', not {_CODE_CHARS}")
        try:
            data = base64.b32decode(code.upper())
        except (binascii.Error, ValueError):
            raise _wrong("a character between ':' and '@' is none of a-z and 2-7") from None
        body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        if check != _check(body, at + address):
            raise _wrong(
                "its check sum differs: a character is wrong, or the address was changed (make "
                "another with `vswitch invite --public`)"
            )
        try:
            server = HostPort.parse(address)
            if not server.host or not server.port:
                raise ValueError("host and port must be given")
        except ValueError as error:
            raise _wrong(f"{address!r}: {error}") from None
        token = body[_KEY_BYTES:]
        return cls(PublicKey(body[:_KEY_BYTES]), token[:_ID_BYTES], token[_ID_BYTES:], server)


def _check(body: bytes, where: str) -> bytes:
    return blake2s(body + where.encode("utf-8", "surrogatepass")).digest()[:_CHECK_BYTES]


def _wrong(reason: str) -> ConfigError:
    return ConfigError(
        f"this is not a join string: {reason}; copy all of what `vswitch invite` printed"
    )
