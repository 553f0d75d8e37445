"""What a switch and a member tell each other in control records: `{"kind": "hello", …}` in JSON.

The member opens with `hello`, the switch answers `welcome`; or with `look`, which is answered by
`sight`, and by nothing else. `notice`, `update`, `peers`, `roster`, `rekey` and `bye` may follow
from the switch, `who`, `leave`, `moved` and `bye` from the member, `after` from either.
What the reader does not know, kind or field, is ignored, so that either side may be the newer one;
so is a kind that the other side may not send. Anything else that is malformed is a `BadRecord` and
ends the session.

Every field is checked on the way in, because the member configures an interface, as root, with what
a switch says, and both log what the other says: an address is one, without a zone; a text is
printable and bounded; a list is short. Pure.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final, Self, TypeAlias

import attrs
import cattrs

from vswitch.addresses import MAX_GATEWAYS, MAX_OFFERED
from vswitch.errors import BadRecord
from vswitch.errors import ByeCode as ByeCode
from vswitch.frames.ethernet import MAX_MTU, MIN_MTU, parse_mac
from vswitch.frames.records import CONTROL, HEADER_SIZE, encode_record

# --- What a field may hold ----------------------------------------------------------------------
# Validators, which raise `ValueError` for a program's own mistakes and for a peer's alike.

MAX_TEXT = 1000  # characters of a text for people
MAX_LIST = 256  # entries of a list: more name servers than anybody has

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_DOMAIN = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.|$))*")

Validator: TypeAlias = "Callable[[Any, attrs.Attribute[Any], Any], None]"


def check(rule: Callable[[str], object]) -> Validator:
    """A validator: `rule` raises `ValueError` for a text that is wrong; None passes."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        for text in value if isinstance(value, tuple) else (value,):
            if text is not None:
                rule(text)

    return validate


def _plain_text(text: str) -> None:
    if len(text) > MAX_TEXT or not all(char.isprintable() for char in text):
        raise ValueError(f"not a printable text of at most {MAX_TEXT} characters")


def _key(text: str) -> None:
    if not _KEY.fullmatch(text):
        raise ValueError("not the base64 of 32 bytes")


def _label(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise ValueError(f"not a member name: {text!r}")


def _domain(text: str) -> None:
    if len(text) > 253 or not _DOMAIN.fullmatch(text):
        raise ValueError(f"not a domain: {text!r}")


# A list may have hundreds of addresses, so they are parsed by the C library, which takes no zone:
# that may hold any character.
def _packed(text: str) -> bytes:
    """The bytes of an address."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"no address: {text[:60]!r}") from None


def _address(text: str, *, network: bool = False) -> None:
    """ADDRESS or ADDRESS/PREFIX; of a network, with no bit behind the prefix."""
    address, slash, prefix = text.partition("/")
    packed = _packed(address)
    if not slash:
        return
    if not _PREFIX.fullmatch(prefix) or (behind := len(packed) * 8 - int(prefix)) < 0:
        raise ValueError(f"no prefix length: {text[:60]!r}")
    if network and int.from_bytes(packed) & ((1 << behind) - 1):
        raise ValueError(f"bits are set behind the prefix: {text[:60]!r}")


def _interface(text: str) -> None:
    if "/" not in text:
        raise ValueError(f"an address without prefix length: {text[:60]!r}")
    _address(text)


def _wish(text: str) -> None:
    if text not in ("auto", "none"):
        _interface(text)


def _network(text: str) -> None:
    if text:
        _route(text)


def _route(text: str) -> None:
    _address(text, network=True)


def _server(text: str) -> None:
    _packed(text)


@attrs.frozen(order=True)
class Gateway:
    """A network behind a member, as everybody else reaches it."""

    network: str  # with its prefix length
    address: str  # the member's on the LAN, of the same family
    name: str  # the member's

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `192.168.1.0/24 via 10.77.0.3 pc1`; `ValueError`."""
        match text.split(" "):
            case [network, "via", address, name]:
                _route(network)
                if "/" not in network or (":" in network) != (":" in address):
                    raise ValueError(f"a network and an address that do not fit: {text[:60]!r}")
                _packed(address)
                _label(name)
                return cls(network, address, name)
        raise ValueError(f"no gateway: {text[:60]!r}")

    def __str__(self) -> str:
        return f"{self.network} via {self.address} {self.name}"


def between(lowest: int, highest: int) -> Validator:
    """A validator: a number in this range, ends included; None passes."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{attribute.name} {value} is not in {lowest} to {highest}")

    return validate


MTU: Final = between(MIN_MTU, MAX_MTU)
TEXT: Final = check(_plain_text)
LABEL: Final = check(_label)
LABEL_OR_NONE: Final = check(lambda text: None if text == "" else _label(text))
DOMAIN: Final = check(_domain)
INTERFACE: Final = check(_interface)
NETWORK: Final = check(_network)
WISH: Final = check(_wish)
_SHORT_LIST: Final = attrs.validators.optional(attrs.validators.max_len(MAX_LIST))
OFFERED: Final = [attrs.validators.max_len(MAX_OFFERED), check(_route)]
GATEWAYS: Final = [
    attrs.validators.optional(attrs.validators.max_len(MAX_GATEWAYS)),
    check(Gateway.parse),
]
KEY: Final = check(_key)
SERVERS: Final = [_SHORT_LIST, check(_server)]


def to_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """A converter for lists."""
    return tuple(texts)


def to_tuple(texts: Iterable[str] | None) -> tuple[str, ...] | None:
    """A converter for optional lists."""
    return None if texts is None else tuple(texts)


# --- Messages ------------------------------------------------------------------------------------


@attrs.frozen
class Hello:
    """From a member, first of all: what it is and what it would like."""

    mtu: int = attrs.field(validator=MTU)  # bytes of Ethernet payload that it can take
    mac: str = attrs.field(validator=check(parse_mac))
    name: str = attrs.field(default="", validator=LABEL_OR_NONE)  # "": the one that its key has
    offload: bool = False  # takes and sends superframes
    software: str = attrs.field(default="", validator=TEXT)
    address: str = attrs.field(default="auto", validator=WISH)  # auto, none, or CIDR
    lane: str = attrs.field(default="kcp", validator=TEXT)  # wished for: see `lane_choice.py`
    bridge: bool = False  # a LAN with hosts of its own is behind it
    # Networks behind it, which others reach through it once the operator has approved them.
    advertise: tuple[str, ...] = attrs.field(default=(), converter=to_texts, validator=OFFERED)


@attrs.frozen
class Welcome:
    """The switch's answer: the member is plugged in, and this is its place in the network."""

    name: str = attrs.field(validator=LABEL)
    port: int = attrs.field(validator=between(1, 0xFFFF))
    address: str | None = attrs.field(default=None, validator=INTERFACE)  # 10.77.0.2/24
    network: str = attrs.field(default="", validator=NETWORK)  # "": none is managed
    gateways: tuple[str, ...] = attrs.field(default=(), converter=to_texts, validator=GATEWAYS)
    names: tuple[str, ...] = attrs.field(default=(), converter=to_texts, validator=SERVERS)  # DNS
    domain: str = attrs.field(default="", validator=DOMAIN)
    mtu: int = attrs.field(default=1500, validator=MTU)
    offload: bool = False  # superframes may be sent and may come; only if the hello said so too
    software: str = attrs.field(default="", validator=TEXT)
    lane: str = attrs.field(default="kcp", validator=TEXT)  # in force: the wish, or kcp
    # For a member that sends or forwards IPv6 through gateways.
    address6: str | None = attrs.field(default=None, validator=INTERFACE)
    seen: str = attrs.field(default="", validator=TEXT)  # where the member's datagrams come from


@attrs.frozen
class Look:
    """From a member, instead of a hello: it looks at the way alone, and is not plugged in."""


@attrs.frozen
class Sight:
    """The switch's answer: where it sees who looks."""

    seen: str = attrs.field(validator=TEXT)


@attrs.frozen
class Notice:
    """A sentence for the person at the other end."""

    text: str = attrs.field(validator=TEXT)


@attrs.frozen
class Update:
    """Parts of the welcome that changed; None is unchanged."""

    address: str | None = attrs.field(default=None, validator=INTERFACE)
    mtu: int | None = attrs.field(default=None, validator=MTU)
    gateways: tuple[str, ...] | None = attrs.field(
        default=None, converter=to_tuple, validator=GATEWAYS
    )
    names: tuple[str, ...] | None = attrs.field(default=None, converter=to_tuple, validator=SERVERS)
    domain: str | None = attrs.field(default=None, validator=DOMAIN)


@attrs.frozen
class Bye:
    """The session ends, and why. `ByeCode(code)` names the code."""

    code: int = attrs.field(default=ByeCode.NORMAL, converter=int, validator=between(0, 0xFF))
    reason: str = attrs.field(default="", validator=TEXT)


MAX_PEERS = 128  # of one `peers`: of the longest names that is 14 KB
_PEER = re.compile(r"(\S{1,63}) (up|away) (\S{1,43}|-) ([0-9a-f:]{17}|-)")


def _peer(text: str) -> None:
    found = _PEER.fullmatch(text)
    if found is None:
        raise ValueError(f"no member: {text[:60]!r}")
    name, _, address, mac = found.groups()
    _label(name)
    if address != "-":
        _address(address)
    if mac != "-":
        parse_mac(mac)


@attrs.frozen
class Who:
    """From a member: who else is a member? Those behind this name in the order of names."""

    after: str = attrs.field(default="", validator=LABEL_OR_NONE)


@attrs.frozen
class Peers:
    """The switch's answer, each as `pc2 up 10.77.0.3 02:00:00:00:00:01`, with `-` for what is not
    there or not known. `more` says that there are others behind the last.
    """

    members: tuple[str, ...] = attrs.field(
        validator=[attrs.validators.max_len(MAX_PEERS), check(_peer)]
    )
    more: bool = False


@attrs.frozen
class Roster:
    """From the switch: its members have other names or addresses than before; `who` tells."""


@attrs.frozen
class Leave:
    """From a member: forget its key. The switch ends the session when it has, with `bye`."""


@attrs.frozen
class Rekey:
    """From the switch, to a member that has come by an older key: it has a new one. Handshakes with
    the older one are answered `until`, seconds of the epoch.
    """

    key: str = attrs.field(validator=KEY)
    until: int = attrs.field(validator=between(0, 2**63 - 1))


@attrs.frozen
class Moved:
    """From a member: it has written down this key of the switch, and goes by it from now on."""

    key: str = attrs.field(validator=KEY)


@attrs.frozen
class After:
    """From either: a fence. What follows on the bulk lane is handled after so many messages of the
    sparse lane, counted from the beginning of the session.
    """

    sparse: int = attrs.field(validator=between(0, 2**63 - 1))


ControlMessage = (
    Hello
    | Welcome
    | Look
    | Sight
    | Notice
    | Update
    | Who
    | Peers
    | Roster
    | Leave
    | Rekey
    | Moved
    | Bye
    | After
)

_KINDS: Final[dict[str, type[ControlMessage]]] = {
    "hello": Hello,
    "welcome": Welcome,
    "look": Look,
    "sight": Sight,
    "notice": Notice,
    "update": Update,
    "who": Who,
    "peers": Peers,
    "roster": Roster,
    "leave": Leave,
    "rekey": Rekey,
    "moved": Moved,
    "bye": Bye,
    "after": After,
}
_KIND_OF: Final = {cls: kind for kind, cls in _KINDS.items()}

# Who may send what. `after` is of the channel, and is always looked at.
ALL_KINDS: Final = frozenset(_KINDS)
FROM_MEMBER: Final = frozenset({"hello", "look", "bye"})
AFTER_HELLO: Final = frozenset({"who", "leave", "moved"})  # of a member that was admitted
TO_LOOKER: Final = frozenset({"sight", "bye"})
FROM_SWITCH: Final = frozenset({"welcome", "notice", "update", "peers", "roster", "rekey", "bye"})

# As `encode_control` writes it. In a transfer there are many: this costs a tenth of reading JSON.
_AFTER: Final = re.compile(rb'\{"kind": "after", "sparse": (0|[1-9][0-9]{0,17})\}')


def _exactly(wanted: type) -> Callable[[Any, Any], Any]:
    """No coercion: cattrs would make an int of "5", and True is an int to isinstance."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not wanted:
            raise TypeError(f"{wanted.__name__} expected")
        return value

    return structure


def _structure_list(value: Any, _: Any) -> tuple[str, ...]:
    if type(value) is not list or not all(type(item) is str for item in value):
        raise TypeError("list of texts expected")
    return tuple(value)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_converter: Final = cattrs.Converter(detailed_validation=False)
for _type in (int, str, bool):
    _converter.register_structure_hook(_type, _exactly(_type))
_converter.register_structure_hook_func(lambda wanted: wanted == tuple[str, ...], _structure_list)


def encode_control(message: ControlMessage) -> bytes:
    """The control record of a message. `ValueError` when it exceeds 16 KiB."""
    fields = {"kind": _KIND_OF[type(message)], **_converter.unstructure(message)}
    return encode_record(CONTROL, json.dumps(fields, ensure_ascii=False).encode())


def after_untrusted(record: bytes) -> int | None:
    """The count of a fence as `encode_control` writes it; None for any other control record, also
    for a fence in other JSON, which `decode_control_untrusted` reads. Raises nothing.
    """
    found = _AFTER.fullmatch(record, HEADER_SIZE)
    return None if found is None else int(found[1])


def decode_control_untrusted(
    record: bytes, kinds: frozenset[str] = ALL_KINDS
) -> ControlMessage | None:
    """The message of a whole control record; None for a kind that is none of `kinds`, whose fields
    are not looked at. `after` always is one.
    """
    try:
        fields = json.loads(record[HEADER_SIZE:].decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRecord("control record is not JSON") from error
    if type(fields) is not dict or type(fields.get("kind")) is not str:
        raise BadRecord("control record names no kind")
    kind = fields["kind"]
    if kind not in kinds and kind != "after":
        return None
    try:
        return _converter.structure(fields, _KINDS[kind])
    except (ValueError, TypeError, KeyError) as error:
        # The text may quote the peer at length, and goes to a log.
        raise BadRecord(f"malformed {kind} message: {str(error)[:200]}") from error
