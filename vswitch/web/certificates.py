"""The certificate of the HTTPS listener: of files, which may change while it runs, or self-signed.

Invariants: files are looked at when a connection comes, and read when they have changed; those
that cannot be used change nothing and are logged once for each change. A self-signed one lives in
memory.

Error contract: the constructor raises `ConfigError`; later nothing is raised.
"""

from __future__ import annotations

import datetime
import logging
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vswitch.errors import ConfigError
from vswitch.logs import event

_log = logging.getLogger(__name__)
_VALID = datetime.timedelta(days=3650)


class Certificate:
    """The TLS settings of a listener; `context` gives those of now."""

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        """
        Args:
            certificate: PEM, the chain behind it; None for a self-signed one.
            key: PEM without a password; None if it is in the same file.

        Raises:
            ConfigError: they cannot be used.
        """
        self._files = None if certificate is None else (certificate, key or certificate)
        self._seen: object = None
        if self._files is None:
            self._context = _self_signed()
            return
        self._seen = _look(self._files)
        try:
            self._context = _load(*self._files)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{_names(self._files)}: {_reason(error)}") from None

    def context(self) -> ssl.SSLContext:
        """What the next connection gets."""
        if self._files is not None and (now := _look(self._files)) != self._seen:
            self._seen = now
            try:
                self._context = _load(*self._files)
            except (OSError, ValueError) as error:
                names, reason = _names(self._files), _reason(error)
                event(_log, "certificate-kept", logging.WARNING, files=names, reason=reason)
            else:
                event(_log, "certificate-loaded", files=_names(self._files))
        return self._context


def _names(files: tuple[Path, Path]) -> str:
    return f"certificate {files[0]} with key {files[1]}"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate with its key, in PEM, without a password ({error.reason})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _look(files: tuple[Path, Path]) -> list[tuple[int, int, int] | None]:
    """What changes when they do."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return found


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Without this a key that has a password would ask the terminal for it.
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context


def _self_signed() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, *form)
    pem += certificate.public_bytes(serialization.Encoding.PEM)
    # OpenSSL takes keys from files alone: from one that has no name, where the system knows such.
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("certificate"), "wb") as memory:
            memory.write(pem)
            memory.flush()
            path = Path(f"/proc/self/fd/{memory.fileno()}")
            return _load(path, path)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        return _load(Path(file.name), Path(file.name))
