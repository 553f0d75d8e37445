"""The API of a switch at its TCP listeners: in plain text on this host, and on the HTTPS side.

A bulkhead: a fault in here ends this listener alone, and is logged with its traceback.

Error contract: `VswitchError` where it cannot listen.
"""

from __future__ import annotations

import errno
import logging

import trio

from vswitch.addresses import HostPort
from vswitch.api.http import Api
from vswitch.api.routes import SWITCH
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.logs import event
from vswitch.page.files import PageFiles
from vswitch.serving.status import Underlay
from vswitch.web.requests import Routes
from vswitch.web.server import Limits, WebServer

# Of this host alone. What fails is a program in a loop rather than a stranger.
_LIMITS = Limits(connections=128, per_address=128, turns=1000.0)

log = logging.getLogger(__name__)


def routes_of(underlay: Underlay) -> Routes:
    """What a listener of the API answers."""
    routes = Routes()
    routes.add_table(Api(underlay.subject, SWITCH).find)
    routes.add_table(PageFiles().find)
    return routes


async def serve_api(
    underlay: Underlay, where: HostPort, *, task_status: trio.TaskStatus[None]
) -> None:
    """Until cancelled, or a fault. Started when it listens."""
    try:
        async with trio.open_nursery() as nursery:
            server = WebServer(routes_of(underlay), _LIMITS)
            underlay.web["api"] = server.counters
            listeners = await _listen(where)
            await nursery.start(server.serve, listeners, None)
            port = listeners[0].socket.getsockname()[1]
            underlay.api = HostPort(where.host, port).text()
            event(log, "serving-api", listen=underlay.api)
            task_status.started()
    except Exception:
        if underlay.api is None:  # it could not begin
            raise
        log.exception("api-ended")
    finally:
        underlay.api = None


async def _listen(where: HostPort) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(where.port, host=where.host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise VswitchError(
                f"TCP port {where} is in use by another program: choose another with --api"
            ) from None
        if error.errno == errno.EACCES:
            raise PrivilegeError(
                f"TCP port {where} needs a privilege: choose a port above 1023 with --api"
            ) from None
        raise VswitchError(f"cannot listen for the API on {where}: {error.strerror}") from None
