"""What commands do that have changed the registry: the running switch looks into it at once."""

from __future__ import annotations

from typing import Any

from vswitch.cli.common import say
from vswitch.errors import NotReachable, NotRunning
from vswitch.management.client import request
from vswitch.state import StateDir


def recheck(files: StateDir, done: str, **args: Any) -> None:
    """Have a running switch look into the registry, which says `done` of a member.

    Raises:
        NotReachable: it runs, and has not answered.
    """
    try:
        request(files.control_socket, "revoked", **args)
    except NotRunning:
        # It may run with its socket removed, and then it sees for itself what was written down.
        say(
            "vswitch: no switch answers here: one that runs ends the member's session within "
            "seconds, one that starts knows"
        )
    except NotReachable as error:
        raise NotReachable(
            f"{done}, but the switch has not said that it has seen it: {error}\n"
            "The switch looks for itself each second; see `vswitch members`"
        ) from None
