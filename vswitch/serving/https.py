"""The HTTPS side of a switch: members that cannot come by UDP.

A bulkhead: a fault in here ends this side alone, and is logged with its traceback.

Error contract: `VswitchError` where it cannot listen, `ConfigError` for a certificate or key that
cannot be used.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from transport import Endpoint
from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.logs import event
from vswitch.runtime import allow_files
from vswitch.serving.api import routes_of
from vswitch.serving.status import Underlay
from vswitch.web.certificates import Certificate
from vswitch.web.links import serve_https
from vswitch.web.requests import Routes
from vswitch.web.server import Limits, WebServer

_OTHER_FILES = 512  # that are not connections of HTTPS: sockets, the registry, captures, commands

log = logging.getLogger(__name__)


def public_https(config: ServeConfig) -> str:
    """Where members reach the HTTPS side, as far as the options say it: `LastServed.https`."""
    if config.https is None:
        return ""
    if config.https_public is not None:
        return config.https_public
    return f"https://:{config.https.port}{config.https_prefix}" if config.https.port else ""


def certificate_of(config: ServeConfig) -> Certificate | None:
    """That of the files, or a self-signed one; None where there is no HTTPS side."""
    if config.https is None:
        return None
    return Certificate(config.https_certificate, config.https_key)


async def serve_members_over_https(
    underlay: Underlay,
    keys: Callable[[], Sequence[bytes]],
    config: ServeConfig,
    certificate: Certificate,
    *,
    api: bool,
    task_status: trio.TaskStatus[None],
) -> None:
    """Until cancelled, or a fault. Started when it listens. `keys` are the switch's, public; with
    `api` that is there, too.
    """
    where = config.https
    assert where is not None
    host = None if where.host == "::" else where.host
    # Without a file left nobody else comes in either, nor does a command.
    limits = Limits()
    allowed = allow_files(limits.connections + _OTHER_FILES)
    limits = attrs.evolve(limits, connections=max(1, allowed - _OTHER_FILES))
    routes = routes_of(underlay) if api else None
    try:
        async with trio.open_nursery() as nursery:
            listening = await nursery.start(
                _listen,
                underlay.endpoint,
                keys,
                host,
                where,
                certificate,
                config.https_prefix,
                limits,
                routes,
            )
            assert isinstance(listening, WebServer)
            underlay.web["https"] = listening.counters
            underlay.https = where.text()
            event(log, "serving-https", listen=where, prefix=config.https_prefix or None)
            task_status.started()
    except Exception:
        if underlay.https is None:  # it could not begin
            raise
        log.exception("https-ended")
    finally:
        underlay.https = None


async def _listen(
    endpoint: Endpoint,
    keys: Callable[[], Sequence[bytes]],
    host: str | None,
    where: HostPort,
    certificate: Certificate,
    prefix: str,
    limits: Limits,
    routes: Routes | None,
    *,
    task_status: trio.TaskStatus[WebServer],
) -> None:
    try:
        await serve_https(
            endpoint,
            keys,
            host,
            where.port,
            certificate,
            prefix=prefix,
            routes=routes,
            limits=limits,
            task_status=task_status,
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise VswitchError(
                f"TCP port {where} is in use by another program: choose another with --https"
            ) from None
        if error.errno == errno.EACCES:
            raise PrivilegeError(
                f"TCP port {where} needs a privilege: run as root, give CAP_NET_BIND_SERVICE, or "
                "choose a port above 1023 with --https"
            ) from None
        raise VswitchError(f"cannot listen for HTTPS on {where}: {error.strerror}") from None
