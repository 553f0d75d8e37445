"""Join strings: what `vswitch invite` prints and `vswitch join` takes.

`vsw2:` + base32 of fields ‖ check 4. A field is tag u8 ‖ length u8 ‖ value; the tags are 1 server
key, 2 token id, 3 token secret, 4 HOST:PORT, 5 name, 7 where it is reached over HTTPS. Tags 4 and 7
may be there several times: the switch is at each of these places. Other tags are passed over, so
that a later version can say more. The check is the first 4 bytes of BLAKE2s over "vsw2" and the
fields. A string of one place, with neither name nor HTTPS, is written as it always was:

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
from vswitch.addresses import MAX_PLACES, HostPort, check_name, parse_https
from vswitch.errors import ConfigError

_PREFIX = "vsw1:"
_KEY_BYTES, _ID_BYTES, _SECRET_BYTES, _CHECK_BYTES = 32, 8, 16, 4
_CODE_CHARS = 96  # base32 of the 60 bytes; a multiple of 5 bytes needs no padding
_LIMIT = 512  # characters: prefix, code, and the longest host name with port
_TAGGED = "vsw2:"
_TAGGED_LABEL = b"vsw2"
_TAGGED_LIMIT = 2048  # characters: what this version writes and more than as much again
_KEY, _ID, _SECRET, _SERVER, _NAME, _HTTPS = 1, 2, 3, 4, 5, 7
_HTTPS_LIMIT = 4  # addresses
_SIZES = {_KEY: _KEY_BYTES, _ID: _ID_BYTES, _SECRET: _SECRET_BYTES}
_PSK_LABEL = b"vswitch psk v1"


@frozen
class JoinString:
    """What a join string says. `servers` is where the switch is, by names or addresses."""

    server_key: PublicKey = field(validator=instance_of(PublicKey))
    token_id: bytes
    token_secret: bytes = field(repr=False)
    servers: tuple[HostPort, ...]
    name: str = ""  # of the member that it makes, where the string says it
    https: tuple[str, ...] = ()  # as `addresses.parse_https` writes them

    @classmethod
    def new(
        cls,
        server_key: PublicKey,
        *servers: HostPort,
        name: str = "",
        https: tuple[str, ...] = (),
    ) -> Self:
        """A string with a new token from the operating system's random source."""
        token_id, secret = os.urandom(_ID_BYTES), os.urandom(_SECRET_BYTES)
        return cls(server_key, token_id, secret, servers, name, https)

    @property
    def psk(self) -> bytes:
        """The 32-byte pre-shared key of the handshake, derived from the token secret."""
        return blake2s(_PSK_LABEL, key=self.token_secret, digest_size=32).digest()

    def encode(self) -> str:
        """The text form."""
        if self.name or self.https or len(self.servers) > 1:
            fields = [
                (_KEY, self.server_key.raw),
                (_ID, self.token_id),
                (_SECRET, self.token_secret),
            ]
            fields += [(_SERVER, each.text().encode()) for each in self.servers]
            fields += [(_NAME, self.name.encode())] if self.name else []
            fields += [(_HTTPS, each.encode()) for each in self.https]
            body = b"".join(bytes((tag, len(value))) + value for tag, value in fields)
            return _TAGGED + _base32(body + _check(_TAGGED_LABEL + body, ""))
        body = self.server_key.raw + self.token_id + self.token_secret
        where = f"@{self.servers[0].text()}"
        code = base64.b32encode(body + _check(body, where)).decode("ascii").lower()
        return f"{_PREFIX}{code}{where}"

    @classmethod
    def parse_untrusted(cls, text: str) -> Self:
        """Read what somebody typed or pasted; surrounding white space is ignored.

        Raises:
            ConfigError: it is no join string, or not the one that was printed.
        """
        text = text.strip()
        if text.startswith(_TAGGED):
            return cls._parse_tagged_untrusted(text.removeprefix(_TAGGED).lower())
        if not text.startswith(_PREFIX):
            raise _wrong(f"it does not begin with {_TAGGED!r}")
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
            server = _place(address)
        except ValueError as error:
            raise _wrong(f"{address!r}: {error}") from None
        token = body[_KEY_BYTES:]
        return cls(PublicKey(body[:_KEY_BYTES]), token[:_ID_BYTES], token[_ID_BYTES:], (server,))

    @classmethod
    def _parse_tagged_untrusted(cls, code: str) -> Self:
        if len(code) > _TAGGED_LIMIT:
            raise _wrong(f"it is longer than {_TAGGED_LIMIT} characters")
        try:
            data = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
        except (binascii.Error, ValueError):
            raise _wrong("a character is none of a-z and 2-7, or some are missing") from None
        body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
        # The last character has bits that stand for nothing: those must be as they were written.
        if check != _check(_TAGGED_LABEL + body, "") or _base32(data) != code:
            raise _wrong("its check sum differs: a character is wrong, or some are missing")
        fields: dict[int, bytes] = {}
        places: list[bytes] = []
        https: list[bytes] = []
        at = 0
        while at < len(body):
            tag, size = body[at], int.from_bytes(body[at + 1 : at + 2])
            value = body[at + 2 : at + 2 + size]
            fields.setdefault(tag, value)
            if tag == _SERVER:
                places.append(value)
            elif tag == _HTTPS:
                https.append(value)
            at += 2 + size
        if at != len(body) or any(len(fields.get(tag, b"")) != n for tag, n in _SIZES.items()):
            raise _wrong("a field is missing or has another size")
        try:
            found = (_place(each.decode()) for each in (places or [b""])[:MAX_PLACES])
            servers = tuple(dict.fromkeys(found))
            name = check_name(fields[_NAME].decode()) if _NAME in fields else ""
            urls = tuple(parse_https(each.decode()) for each in https[:_HTTPS_LIMIT])
        except ValueError as error:
            raise _wrong(str(error)) from None
        return cls(PublicKey(fields[_KEY]), fields[_ID], fields[_SECRET], servers, name, urls)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").lower().rstrip("=")


def _place(text: str) -> HostPort:
    server = HostPort.parse(text)
    if not server.host or not server.port:
        raise ValueError("host and port must be given")
    return server


def _check(body: bytes, where: str) -> bytes:
    return blake2s(body + where.encode("utf-8", "surrogatepass")).digest()[:_CHECK_BYTES]


def _wrong(reason: str) -> ConfigError:
    return ConfigError(
        f"this is not a join string: {reason}; copy all of what `vswitch invite` printed"
    )
