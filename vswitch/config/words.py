"""Words that become values: yes and no, one of a few, names, interfaces, paths, and lists of words.

Flags, variables, configuration files, live settings and requests all use one function for each kind
of value, from here, quantities.py, addressing.py or places.py, so that a spelling which one of them
takes is taken by all. Each takes a value that is already right and returns it unchanged.

Error contract of these files: `ValueError` with the reason alone; who calls adds where the value
came from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vswitch.addresses import check_name
from vswitch.members.lane_choice import LANES

LEVELS = ("trace", "debug", "info", "warning", "error")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")  # as useradd(8) takes them, and dots
INTERFACE_CHARS = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
_NAMES_LIMIT = 64  # ports in one setting
_PORT_CHARS = 128  # NAME-[ADDRESS%INTERFACE]:PORT of a foreign client
_BOOLEANS = dict.fromkeys(("on", "yes", "true", "1"), True) | dict.fromkeys(
    ("off", "no", "false", "0"), False
)
NONE = ("none", "")


def to_text(value: object) -> str:
    """Text as it is, and nothing else."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def listed(value: str | Sequence[str]) -> list[str]:
    """Words of a list, or of text with spaces or commas between them."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if not isinstance(value, Sequence):
        raise ValueError("must be text, or a list of it")
    return [to_text(word) for word in value]


def to_texts(value: str | Sequence[str]) -> tuple[str, ...]:
    """Texts without blanks: a list, or one text with commas; nothing, or `none`, for none."""
    if isinstance(value, str) and value.lower() in NONE:
        return ()
    each = value.split(",") if isinstance(value, str) else value
    if not isinstance(each, list | tuple) or not all(isinstance(text, str) for text in each):
        raise ValueError("write text, or a list of texts")
    return tuple(text.strip() for text in each if text.strip())


def to_bool(value: bool | int | str) -> bool:
    """`on`, `yes`, `true` or `1`; `off`, `no`, `false` or `0`; in a file with quotes or without."""
    known = _BOOLEANS.get(str(value).lower()) if isinstance(value, str | int) else None
    if known is None:
        raise ValueError("must be on or off, yes or no, true or false, 1 or 0")
    return known


def to_optional_bool(value: bool | int | str | None) -> bool | None:
    """As `to_bool`; None, or `default`, means what holds elsewhere."""
    return None if value is None or value == "default" else to_bool(value)


def to_lane(value: str) -> str:
    """The lane that a member wishes for."""
    if to_text(value).lower() not in LANES:
        raise ValueError(f"must be one of {', '.join(LANES)}")
    return value.lower()


def to_accept_ra(value: str) -> str:
    """What of router advertisements the interface takes."""
    if to_text(value).lower() not in ("off", "addresses", "on"):
        raise ValueError("must be off, addresses (no way out of the LAN), or on")
    return value.lower()


def to_level(value: str) -> str:
    """A log level by name."""
    if to_text(value).lower() not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return value.lower()


def to_path_wish(value: str) -> str:
    """Which paths to a switch a member takes."""
    if to_text(value).lower() not in ("auto", "udp", "https"):
        raise ValueError("must be auto, udp or https")
    return value.lower()


def to_post_quantum(value: str) -> str:
    """Whether handshakes are to have ML-KEM-768 in them."""
    if to_text(value).lower() not in ("auto", "require", "off"):
        raise ValueError("must be auto, require or off")
    return value.lower()


def to_name(value: str) -> str:
    """A member name."""
    return check_name(to_text(value))


def to_optional_name(value: str) -> str:
    """As `to_name`; empty text means none."""
    return value if value == "" else to_name(value)


def to_user(value: str | None) -> str | None:
    """A user by name; None for staying who one is. Whether there is one is asked later."""
    if value is None:
        return None
    name = to_text(value)
    if not _USER.fullmatch(name):
        raise ValueError("must be the name of a user: letters, digits, '-', '_' and '.'")
    return name


def to_port_name(value: str) -> str:
    """A name that a port can have, of a member or of a foreign client; `*` stands for all ports."""
    if not 1 <= len(to_text(value)) <= _PORT_CHARS or not all(
        "!" <= letter <= "~" and letter != "/" for letter in value
    ):
        raise ValueError(
            f"no port can be called so: write 1 to {_PORT_CHARS} visible characters of ASCII "
            "without '/', or * for all ports"
        )
    return value


def to_port_names(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Names of ports: `pc1,pc2`, or a list; `none` and nothing at all are none."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise ValueError("write names of ports, as pc1,pc2, or none")
    kept = tuple(dict.fromkeys(to_text(name).strip() for name in names))
    if kept in ((), ("",), ("none",)):
        return ()
    if len(kept) > _NAMES_LIMIT or not all(name.isprintable() and name for name in kept):
        raise ValueError(f"write 1 to {_NAMES_LIMIT} names of ports, as pc1,pc2, or none")
    return kept


def to_interface(value: str) -> str:
    """A name that Linux takes for an interface (dev_valid_name in net/core/dev.c)."""
    bad = to_text(value) in ("", ".", "..") or any(
        letter in "/:%" or not "!" <= letter <= "~" for letter in value
    )
    if bad or len(value) > INTERFACE_CHARS:
        raise ValueError(
            f"an interface name is 1 to {INTERFACE_CHARS} letters without '/', ':', '%'"
        )
    return value


def to_optional_interface(value: str | None) -> str | None:
    """As `to_interface`; None means none."""
    return None if value is None else to_interface(value)


def to_path(value: str | Path) -> Path:
    """A path; `~` is the home directory."""
    if isinstance(value, Path):
        return value
    if not to_text(value) or not value.isprintable():
        raise ValueError("must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user") from None


def to_optional_path(value: str | Path | None) -> Path | None:
    """As `to_path`; None means none."""
    return None if value is None else to_path(value)
