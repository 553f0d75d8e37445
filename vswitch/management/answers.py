"""What the handlers of the API answer, and what they are asked, beside the classes of `status.py`.

The same rules hold: keys are only ever added; times are wall-clock seconds since the epoch,
durations seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, frozen

from vswitch.management.status import (
    SCHEMA,
    InviteStatus,
    MemberStatus,
    PortStatus,
    PublishStatus,
)


@frozen(kw_only=True)
class Ports:
    """The ports of a switch."""

    ports: list[PortStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class Networks:
    """The networks of a switch."""

    networks: list[str]
    schema: int = SCHEMA


@frozen(kw_only=True)
class Session:
    """Who asks. `csrf` is for the header X-CSRF-Token of changes; None where none is needed."""

    name: str
    role: str
    csrf: str | None = None
    schema: int = SCHEMA


@frozen(kw_only=True)
class Login:
    """The body of a log-in."""

    token: str


@frozen(kw_only=True)
class QrText:
    """The text of a QR code."""

    text: str


@frozen(kw_only=True)
class QrImage:
    """A QR code as an SVG image."""

    svg: str
    schema: int = SCHEMA


@frozen(kw_only=True)
class TokenStatus:
    """One token."""

    name: str
    role: str
    created: float
    used: float | None = None


@frozen(kw_only=True)
class Tokens:
    """All tokens."""

    tokens: list[TokenStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class NewToken:
    """Which token to make."""

    name: str
    role: str = "read"


@frozen(kw_only=True)
class MadeToken:
    """A token that has been made. `token` is shown this once."""

    name: str
    role: str
    token: str
    schema: int = SCHEMA


@frozen(kw_only=True)
class Named:
    """Which one, by its name."""

    name: str


@frozen(kw_only=True)
class Document:
    """A document of OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    security: list[Any] = Factory(list)


@frozen(kw_only=True)
class Save:
    """Whether to keep a change when the switch ends."""

    save: bool = False


@frozen(kw_only=True)
class Reload:
    """Whether to take back what was changed live, too."""

    revert: bool = False


@frozen(kw_only=True)
class ConfigSetting:
    """A value of the configuration; `source` is file, saved, live or option."""

    key: list[str]
    value: Any
    source: str


@frozen(kw_only=True)
class ConfigState:
    """All that is said. `saved_file` is null of a member, which keeps nothing."""

    file: str | None
    saved_file: str | None
    settings: list[ConfigSetting]


@frozen(kw_only=True)
class ConfigChange:
    """A key that has another value; null for none."""

    key: str
    before: Any
    after: Any


@frozen(kw_only=True)
class Configured:
    """What has changed, or would; what was changed live and is not saved; and what is saved."""

    changes: list[ConfigChange]
    unsaved: list[ConfigChange]
    saved: list[ConfigChange]
    problem: str | None = None  # why a reload would be refused


@frozen(kw_only=True)
class Setting:
    """One setting in force. `text` is the value as a file has it, `source` the table that
    says so, and `said` where that is: file, saved or live.
    """

    key: str
    value: Any
    text: str
    source: str
    help: str
    said: str = ""


@frozen(kw_only=True)
class PortSettings:
    """The settings of a port. `table` is what the file would have of it; `ports` how many there
    are now that these are for.
    """

    name: str
    settings: dict[str, Any]
    table: str
    in_force: list[Setting]
    blocked: str | None
    ports: int


@frozen(kw_only=True)
class SwitchSettings:
    """The settings of the whole switch."""

    settings: dict[str, Any]
    table: str
    in_force: list[Setting]


@frozen(kw_only=True)
class Copied:
    """Which settings now hold for the other name, too; and of these, which are not kept, as those
    of the first name are not.
    """

    settings: list[str]
    live: list[str] = Factory(list)


@frozen(kw_only=True)
class NewName:
    """The other name."""

    to: str


@frozen(kw_only=True)
class Mac:
    """One station of the MAC table."""

    mac: str
    vlan: int
    port: int
    name: str
    kind: str
    age_s: float


@frozen(kw_only=True)
class Macs:
    """The MAC table."""

    macs: list[Mac]
    entries: int
    capacity: int
    learned: int
    moved: int
    evicted: int


@frozen(kw_only=True)
class MacsAsked:
    """Of one port or VLAN alone; VLAN 0 is untagged."""

    port: str | None = None
    vlan: str | None = None


@frozen(kw_only=True)
class VlanAsked:
    """Of one VLAN alone."""

    vlan: str | None = None


@frozen(kw_only=True)
class NewMac:
    """An entry of the MAC table that stays."""

    name: str
    mac: str
    vlan: int | str | None = None


@frozen(kw_only=True)
class MadeMac:
    """It is there; `ports` is how many ports of that name there are now."""

    name: str
    mac: str
    vlan: int
    ports: int


@frozen(kw_only=True)
class Removed:
    """Which entries are gone."""

    removed: Any


@frozen(kw_only=True)
class Flushed:
    """How many entries are forgotten."""

    flushed: int


@frozen(kw_only=True)
class Members:
    """The members, and the invites that can still be used."""

    members: list[MemberStatus]
    invites: list[InviteStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class MemberChanges:
    """What to change of a member: its name, or which networks behind it are approved."""

    name: str | None = None
    routes: list[str] | None = None


@frozen(kw_only=True)
class NewKey:
    """How long the old key of the switch is good, in seconds; with 0 it is not, which cuts all
    members off and needs `force`.
    """

    grace: float = 30 * 86400.0
    force: bool = False


@frozen(kw_only=True)
class Force:
    """Whether to do it though members are cut off."""

    force: bool = False


@frozen(kw_only=True)
class NewInvite:
    """Whom to invite. `expires` is in seconds; `public` says where members reach the switch, if
    not where it says itself; `again` is for who is a member.
    """

    name: str
    expires: float = 86400.0
    public: list[str] = Factory(list)
    again: bool = False


@frozen(kw_only=True)
class MadeInvite:
    """An invite that has been made. `string` is a secret, shown this once."""

    name: str
    string: str
    expires: float
    schema: int = SCHEMA


@frozen(kw_only=True)
class Disconnected:
    """Who has been unplugged."""

    disconnected: list[str]


@frozen(kw_only=True)
class Lease:
    """One lease by DHCP."""

    address: str
    mac: str
    name: str
    port: str
    expires_s: float


@frozen(kw_only=True)
class Leases:
    """The leases, and how the DHCP server does. `quiet` is another server, for which it keeps
    silent.
    """

    leases: list[Lease]
    quiet: str | None
    heard: dict[str, int]
    said: dict[str, int]
    drops: dict[str, int]


@frozen(kw_only=True)
class Released:
    """Which addresses are free."""

    released: list[str]


@frozen(kw_only=True)
class PublishedList:
    """What is published."""

    published: list[PublishStatus]


@frozen(kw_only=True)
class Listen(Save):
    """Which one, by where it listens."""

    listen: str


@frozen(kw_only=True)
class Unpublished(PublishStatus):
    """What is published no more. `in_file` says that the file has it still."""

    in_file: bool


@frozen(kw_only=True)
class Rule:
    """One rule, and how often it has decided."""

    rule: str
    allowed: int
    denied: int


@frozen(kw_only=True)
class Rules:
    """The rules in force. `unknown` are names that nobody has; `said` is where they are: file,
    saved or live.
    """

    default: str
    rules: list[Rule]
    tests: list[str]
    flows: int
    unknown: list[str]
    groups: dict[str, list[str]] = Factory(dict)
    said: str = ""


@frozen(kw_only=True)
class NewRules:
    """The table [rules] of a file; `place` is what messages call it."""

    table: dict[str, Any]
    place: str = "rules"


@frozen(kw_only=True)
class RulesAsked(NewRules):
    """Other rules, and what would be asked of them: `WHO -> WHO [PROTOCOL [PORT or TYPE]]` each."""

    ask: list[str] = Factory(list)


@frozen(kw_only=True)
class RuleVerdict:
    """What those rules say of it; `by` names the line."""

    asked: str
    allowed: bool
    by: str


@frozen(kw_only=True)
class RulesChecked:
    """How many are right, how many tests hold, and the verdicts in the order of the questions."""

    rules: int
    tests: int
    verdicts: list[RuleVerdict]


@frozen(kw_only=True)
class FrameAsked:
    """A frame, as `vswitch trace` takes it."""

    frame: str


@frozen(kw_only=True)
class PortNamed:
    """A port, by number and name."""

    port: int
    name: str


@frozen(kw_only=True)
class Trace:
    """What would happen to a frame, and why."""

    port: int
    name: str
    frame: str
    steps: list[str]
    egress: list[PortNamed]
    reason: str | None


@frozen(kw_only=True)
class Counters:
    """All counters, of the switch as a whole and of each port."""

    totals: dict[str, int]
    ports: list[PortStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class Events:
    """What has happened. An event has number, at, kind, port, and facts of its kind."""

    events: list[dict[str, Any]]


@frozen(kw_only=True)
class EventsAsked:
    """Those behind a number; with `follow` one line for each as it comes."""

    since: int = 0
    follow: bool = False


@frozen(kw_only=True)
class CaptureAsked:
    """Which frames, in which form (pcapng or text), and for how long. Without a port all."""

    port: list[str] = Factory(list)
    all: bool = False
    filter: str | None = None
    direction: str | None = None
    snaplen: int | None = None
    count: int | None = None
    seconds: float | None = None
    drops: bool = False
    format: str | None = None


@frozen(kw_only=True)
class Impairment:
    """What is done to a port."""

    port: int
    name: str
    orders: str
    left_s: float | None
    held: int


@frozen(kw_only=True)
class Impaired:
    """What is done to ports now."""

    impaired: list[Impairment]
