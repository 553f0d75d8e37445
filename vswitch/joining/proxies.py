"""Which HTTP proxy a member's HTTPS path goes through: that of `--proxy`, else of the environment.

The environment is that of curl: `https_proxy`, else `all_proxy`, and `no_proxy`; in small letters
before capital ones. It is meant for many programs, so what is wrong in it is found when an HTTPS
path is asked for, and costs nobody who needs none.

Invariant: a password comes from a file that nobody else can read, or from the environment as others
use it; it is in no message.

Error contract: `ConfigError` with the file, or the variable, and what to do.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vswitch.addresses import HostPort
from vswitch.errors import ConfigError
from vswitch.state import file_error
from vswitch.web.client import Proxy

_FILE_BYTES = 1024
_DEFAULT_PORT = 8080


def read(
    where: HostPort | None = None, credentials_file: Path | None = None
) -> Callable[[str], Proxy | None]:
    """A function from an address (`https://...`) to the proxy that leads there, None for none; it
    raises `ConfigError` for an environment that cannot be used.
    """
    credentials = None if credentials_file is None else read_credentials(credentials_file)
    if where is not None:
        proxy = Proxy(where.host, where.port or _DEFAULT_PORT, credentials)
        return lambda url: proxy
    proxies = urllib.request.getproxies_environment()
    found = proxies.get("https") or proxies.get("all")

    def proxy_for(url: str) -> Proxy | None:
        parts = urlsplit(url)
        hosts = parts.netloc, parts.hostname or ""  # of IPv6 with and without brackets
        if not found or any(map(urllib.request.proxy_bypass, hosts)):
            return None
        return _of_variable(found, credentials)

    return proxy_for


def read_credentials(path: Path) -> str:
    """`USER:PASSWORD`, the only line of a file that is its owner's alone."""
    try:
        mode = path.stat().st_mode & 0o777
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise file_error("proxy credentials", path, error) from None
    if mode & 0o077:
        raise ConfigError(
            f"proxy credentials {path}: others can read them (mode {mode:04o}): chmod 600 {path}"
        )
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if len(data) > _FILE_BYTES or not text.isprintable() or not text.partition(":")[2]:
        raise ConfigError(f"proxy credentials {path}: write one line, USER:PASSWORD")
    return text


def _of_variable(text: str, credentials: str | None) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme != "http":
            raise ValueError("another kind of proxy")
        where = HostPort.parse(parts.netloc.rpartition("@")[2], default_port=_DEFAULT_PORT)
        if not where.host:
            raise ValueError("no host")
    except ValueError:  # its words may have a password in them that was cut in the wrong place
        raise ConfigError(
            "HTTPS_PROXY (or ALL_PROXY) is not http://[USER:PASSWORD@]HOST[:PORT], which alone can "
            "be used (%2F is a / in a password): set it so, or give --proxy"
        ) from None
    if credentials is None and parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(where.host, where.port, credentials)
