"""X25519 keys: who a peer is, how its key is written down, and how key files are kept.

A member is its static public key; names and addresses hang on it. This module holds the two key
classes, their text form, and the only code of the package that touches the file system.

Invariants: a secret never appears in a repr, in a message or in an error. A key file is complete
or absent, is never overwritten, and is used only if nobody but its owner and root can read it.
Python cannot wipe memory: a secret stays in the process until it ends.

Error contract: text and files that an operator wrote raise `ValueError` and `KeyFileError`, both
with a sentence to act on. `exchange_untrusted` raises `BadPacket` and nothing else.
"""

from __future__ import annotations

import base64
import errno
import os
import secrets
import stat
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

from attrs import define, field

from transport.errors import BadPacket, KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_BYTES = 32  # X25519, RFC 7748: secret, public and shared values all have this size
_TEXT_CHARS = 44  # standard base64 of 32 bytes, padding included
_FINGERPRINT_BYTES = 5  # 40 bits: 8 base32 characters, for people to compare, not for programs
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_FILE_LIMIT = 256  # bytes; a key file has 45, anything much longer is some other file


def _x25519() -> ModuleType:
    # Not at the top: commands that only name keys do without the library.
    from cryptography.hazmat.primitives.asymmetric import x25519

    return x25519


@define(frozen=True, slots=True, repr=False)
class PublicKey:
    """The public half of an X25519 key: 32 raw bytes. Equal, hashable, safe to show."""

    raw: bytes = field()

    @raw.validator
    def _check_raw(self, _attribute: object, value: bytes) -> None:
        if not isinstance(value, bytes) or len(value) != KEY_BYTES:
            raise ValueError(f"a public key is {KEY_BYTES} bytes")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `text` writes, white space around it ignored. Raises `ValueError`."""
        return cls(_from_base64(text, "public key"))

    def text(self) -> str:
        """Standard base64, 44 characters: the form in files, commands and messages."""
        return base64.b64encode(self.raw).decode("ascii")

    def fingerprint(self) -> str:
        """Eight lower-case base32 characters of BLAKE2s over the key, for logs and people."""
        digest = blake2s(self.raw).digest()[:_FINGERPRINT_BYTES]
        return base64.b32encode(digest).decode("ascii").lower()

    def __repr__(self) -> str:
        return f"PublicKey({self.text()!r})"


@define(frozen=True, slots=True, eq=False, repr=False)
class PrivateKey:
    """An X25519 key pair. Compares by identity and shows only its fingerprint."""

    _key: X25519PrivateKey
    public: PublicKey = field(init=False)

    @public.default
    def _derive_public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """A new key from the operating system's random source."""
        return cls(_x25519().X25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """The key with these 32 secret bytes (RFC 7748). Raises `ValueError` for other sizes."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a private key is {KEY_BYTES} bytes")
        return cls(_x25519().X25519PrivateKey.from_private_bytes(raw))

    def raw(self) -> bytes:
        """The 32 secret bytes."""
        return self._key.private_bytes_raw()

    def exchange(self, public_raw: bytes) -> bytes:
        """X25519 with a public key that the operator gave: 32 shared bytes, or `ValueError`."""
        try:
            return self.exchange_untrusted(public_raw)
        except BadPacket as error:
            raise ValueError(f"nobody can own this public key: {error.reason}") from None

    def exchange_untrusted(self, public_raw: bytes) -> bytes:
        """X25519 with 32 bytes that came from outside: 32 shared bytes, never all zeros.

        Raises:
            BadPacket: `low_order_point` (RFC 7748 section 6.1), or `bad_handshake` for a size
                other than 32 bytes.
        """
        if len(public_raw) != KEY_BYTES:
            raise BadPacket("bad_handshake")
        try:
            return self._key.exchange(_x25519().X25519PublicKey.from_public_bytes(public_raw))
        except ValueError:
            raise BadPacket("low_order_point") from None

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public.fingerprint()}>"


def load_key_file(path: str | os.PathLike[str], owners: Sequence[int] = ()) -> PrivateKey:
    """Read a key file, which may be of this user, root, or one of `owners` (user ids).

    Raises:
        KeyFileError: missing, not a regular file, a stranger's, open to others, or not a key.
    """
    key = _load(Path(path), owners)
    if key is None:
        raise KeyFileError(f"key file {path} does not exist")
    return key


def create_key_file(path: str | os.PathLike[str]) -> PrivateKey:
    """Make a key and its file (0600, directories 0700), complete or not at all, even in a crash.

    Raises:
        KeyFileError: something of that name exists, or the file cannot be written.
    """
    key = _create(Path(path))
    if key is None:
        raise KeyFileError(f"{path} exists and is not overwritten: move it away for a new key")
    return key


def load_or_create_key_file(path: str | os.PathLike[str], owners: Sequence[int] = ()) -> PrivateKey:
    """Read the key file, or make it if there is none. Raises `KeyFileError`."""
    # The last step is for whoever lost a race: two programs at once get the same key.
    return _load(Path(path), owners) or _create(Path(path)) or load_key_file(path, owners)


def _load(path: Path, owners: Sequence[int]) -> PrivateKey | None:
    """The key in the file, or None where there is no file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not block us
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:  # a symbolic link ends here: too many levels
        raise KeyFileError(f"key file {path} cannot be opened: {error.strerror}") from None
    try:
        _refuse_unsafe(os.fstat(fd), path, owners)
        text = os.read(fd, _FILE_LIMIT).decode("ascii", "replace")
        return PrivateKey.from_raw(_from_base64(text, "private key"))
    except ValueError as error:
        raise KeyFileError(f"key file {path} holds no key: {error}") from None
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def _refuse_unsafe(status: os.stat_result, path: Path, owners: Sequence[int]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"key file {path} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0, *owners):
        raise KeyFileError(
            f"key file {path} belongs to user {status.st_uid}, neither to this user nor to root: "
            "run this as that user (`runuser -u USER -- ...` from root)"
        )
    if status.st_mode & 0o077:
        raise KeyFileError(f"key file {path} is open to other users: run chmod 600 {path}")


def _create(path: Path) -> PrivateKey | None:
    """Write a new key file; None where that name is taken."""
    key = PrivateKey.generate()
    temporary = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        _make_directories(path.parent)
        try:
            _write_synced(temporary, base64.b64encode(key.raw()) + b"\n")
            # A link fails where the name is taken; a rename would replace what is there.
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            return None
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise KeyFileError(f"key file {path} cannot be written: {error.strerror}") from None
    return key


def _write_synced(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, _FILE_MODE)
    try:
        owner = path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:  # root in the directory of a service's user
            os.fchown(fd, owner.st_uid, owner.st_gid)
        os.fchmod(fd, _FILE_MODE)  # an odd umask must not make the file unreadable to us
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_directories(directory: Path) -> None:
    """Make what is missing of the path, each level 0700; what exists keeps its mode."""
    for level in (*reversed(directory.parents), directory):
        if not level.is_dir():
            level.mkdir(_DIRECTORY_MODE, exist_ok=True)
            _sync_directory(level.parent)


def _sync_directory(directory: Path) -> None:  # else a crash may forget the new name
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _from_base64(text: str, what: str) -> bytes:
    # Errors never quote the text: it may be a secret, also where a public key is asked for.
    text = text.strip()
    if len(text) != _TEXT_CHARS:
        raise ValueError(f"a {what} is {_TEXT_CHARS} characters of base64, this has {len(text)}")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode("ascii") != text:
        raise ValueError(f"this {what} is not the base64 of {KEY_BYTES} bytes")
    return raw
