"""The handlers of the control socket of a running switch, one file for each command that asks.

`HANDLERS` is the table of all verbs. Each handler checks its arguments, which come from whoever may
ask (the switch's own user and root).

Error contract: `ConfigError` for arguments that are wrong, `NotFound` for what is not there; other
`VswitchError`s of what the verb works on pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from vswitch.management.handlers.capture import capture_frames
from vswitch.management.handlers.common import Args, Controlled, Result
from vswitch.management.handlers.config import config_diff, config_reload, config_save
from vswitch.management.handlers.events import events
from vswitch.management.handlers.impair import impair
from vswitch.management.handlers.leases import lease_release, leases
from vswitch.management.handlers.mac import mac_add, mac_del, mac_flush, mac_list, mac_watch
from vswitch.management.handlers.port import port_copy, port_set, switch_set
from vswitch.management.handlers.publish import publish, published, unpublish
from vswitch.management.handlers.rekey import rekey, rekey_finish, rekey_status
from vswitch.management.handlers.rules import rules_list, rules_load
from vswitch.management.handlers.status import bar, revoked, status
from vswitch.management.handlers.trace import trace
from vswitch.management.stream import Stream

HANDLERS: dict[str, Callable[[Controlled, Args], Awaitable[Result | Stream]]] = {
    "status": status,
    "revoked": revoked,
    "bar": bar,
    "switch-set": switch_set,
    "port-set": port_set,
    "port-copy": port_copy,
    "published": published,
    "publish": publish,
    "unpublish": unpublish,
    "config-diff": config_diff,
    "config-reload": config_reload,
    "config-save": config_save,
    "mac-list": mac_list,
    "mac-watch": mac_watch,
    "mac-add": mac_add,
    "mac-del": mac_del,
    "mac-flush": mac_flush,
    "impair": impair,
    "leases": leases,
    "lease-release": lease_release,
    "rekey": rekey,
    "rekey-status": rekey_status,
    "rekey-finish": rekey_finish,
    "rules": rules_list,
    "rules-load": rules_load,
    "trace": trace,
    "events": events,
    "capture": capture_frames,
}
