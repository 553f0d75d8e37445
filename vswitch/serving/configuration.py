"""The configuration of a `serve`, from where it is said to what it makes: a plan of each network.

    file  <  saved (`StateDir.saved`, ours)  <  live (until it ends)  <  flags and variables

Each lies over those before it, key by key (`config/document.py`). A `Configuration` is one moment
of all of them, read and checked whole; another one is made of it, and nothing is changed.

`RESTART` is the one place that says what cannot be changed while it runs.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import frozen

from vswitch.config.document import (
    FILE,
    LIVE,
    SENT,
    Change,
    Document,
    Flat,
    Key,
    Overlay,
    check_plain,
    differences,
    flatten,
    listen_key,
    overlay_between,
    overlay_of,
    spelled,
    to_toml,
    unflatten,
    value_above,
)
from vswitch.config.lines import line_of
from vswitch.config.networks import below, check_networks
from vswitch.config.options import TABLES, NetworkConfig, ServeConfig
from vswitch.config.places import Listen
from vswitch.config.sources import bounded, fill, flag_of, options_of, read_known, read_tables
from vswitch.errors import ConfigError, Problem
from vswitch.serving.plan import NetworkPlan, plan_networks

OTHERS: Final = ("exec", "join", "proxy")  # tables of a file that are not the switch's
SAVED: Final = "saved"  # who says something, besides those that a member has, too

# Options of `serve`, and of a network, that hold from the next start on: what was made of them
# (sockets, interfaces, what members were told) cannot be another without ending their sessions.
# All other options, and all tables of a network, hold at once.
RESTART: Final = frozenset(
    (
        *("state", "listen", "silent", "pq", "user"),
        *("log_file", "log_days", "log_size", "log_only_file"),
        *("https", "https_certificate", "https_key", "https_prefix", "api", "api_https"),
        *("subnet", "mtu", "local_port", "dev", "bridge", "bridge_dhcp", "bridge_ra"),
    )
)
_LISTED: Final = re.compile(r"((?:network\.[^.]+\.)?)(publish|foreign)\[(\d+)\]")
_WITH: Final = " with "  # between the files that a configuration is of, in messages
_MEND: Final = "; it was changed live and kept: mend that line, or take it out"
_MOVE: Final = "; what was changed live is kept there: mend it, or move the file away"
_HEAD: Final = (
    "# Written by vswitch: what was changed live and is kept. It lies over the configuration\n"
    "# file of `vswitch serve`; `removed` names what of that file is taken away. It may be\n"
    "# edited: `vswitch config reload` reads it again.\n"
)


@frozen(kw_only=True)
class Configuration:
    """All of it, at one moment."""

    began: ServeConfig  # as `serve` was called
    given: Mapping[str, Any] | None  # by flags and variables; None: all options are
    file: Flat
    saved: Overlay
    live: Overlay
    config: ServeConfig
    plans: Mapping[str, NetworkPlan]

    @classmethod
    def read(cls, config: ServeConfig, given: Mapping[str, Any] | None) -> Configuration:
        """The one to begin with."""
        with _lines_named(config):
            return _make(config, given, *_files(config), Overlay())

    @classmethod
    def of_file(cls, config: ServeConfig) -> Configuration:
        """The file of `config` alone, as it would be without flags; nothing that is kept."""
        with _lines_named(config):
            given = {"config": config.config}
            return _make(config, given, _read(config.config), Overlay(), Overlay())

    @classmethod
    def unkept(cls, config: ServeConfig, given: Mapping[str, Any] | None) -> Configuration:
        """As `read`, without what is kept: no file of the state directory is looked at."""
        with _lines_named(config):
            return _make(config, given, _read(config.config), Overlay(), Overlay())

    def again(self) -> Configuration:
        """What the files say now; what was changed live stays."""
        with _lines_named(self.began):
            return _make(self.began, self.given, *_files(self.began), self.live)

    def evolve(
        self, *, saved: Overlay | None = None, live: Overlay | None = None, place: str = ""
    ) -> Configuration:
        """With others; `place` is where they are from in messages, if not from files."""
        said = self.saved if saved is None else saved, self.live if live is None else live
        return _make(self.began, self.given, self.file, *said, place)

    def with_all(self, tables: Mapping[str, Any]) -> Configuration:
        """With exactly these tables, of which nothing is live any more."""
        if others := [name for name in OTHERS if name in tables]:
            raise ConfigError(f"{others[0]}: is no table of a switch")
        document = Document(SENT, tables)
        read_known(document, set(TABLES))
        check_networks(document, tables)
        wanted = flatten(tables)
        if self.given is not None:
            for change in differences(self.flat, wanted):
                name = _fields().get(change.key)
                if name is not None and name in self.given:
                    said = f"{flag_of(name)}, or its variable, says it, and goes first"
                    raise ConfigError(f"{spelled(change.key)}: {said}")
        return self.evolve(saved=overlay_between(self.file, wanted), live=Overlay(), place=SENT)

    @property
    def flat(self) -> Flat:
        """All that is said, but for flags and variables."""
        return self.live.over(self.saved.over(self.file))

    @property
    def tables(self) -> dict[str, Any]:
        """The same, as a file has it."""
        return unflatten(self.flat)

    @property
    def api_over_https(self) -> bool:
        """Whether the HTTPS side has the API: not where nobody says anything of one."""
        wanted = any(key[0] == "api" for key in self.flat)
        return self.config.https is not None and self.config.api_https and wanted

    @property
    def saved_text(self) -> str:
        """The file of what is kept."""
        return _HEAD + to_toml(self.saved.document())

    def sources(self) -> dict[Key, str]:
        """Who says each key: `file`, `saved` or `live`."""
        said = dict.fromkeys(self.file, FILE)
        said |= dict.fromkeys(self.saved.values, SAVED)
        return {key: source for key, source in said.items() if key in self.flat} | dict.fromkeys(
            self.live.values, LIVE
        )

    def options(self) -> dict[Key, Any]:
        """What flags and variables say, by the key that a file would have."""
        given = self.given or {}
        return {key: given[name] for key, name in _fields().items() if name in given}

    def unsaved(self) -> list[Change]:
        """What was changed live and is not kept."""
        return differences(self.saved.over(self.file), self.flat)

    def kept(self) -> list[Change]:
        """What is kept, against the file."""
        return differences(self.file, self.saved.over(self.file))


def need_restart(before: Configuration, after: Configuration) -> Iterator[str]:
    """The keys whose change cannot be had while it runs."""
    for key, name in _fields().items():
        if name in RESTART and getattr(before.config, name) != getattr(after.config, name):
            yield spelled(key)
    if before.api_over_https != after.api_over_https:
        yield "api"
    for name in before.plans.keys() & after.plans.keys():
        old, new = before.plans[name].config, after.plans[name].config
        for option in options_of(NetworkConfig):
            if (
                old is not before.config
                and option in RESTART
                and getattr(old, option) != getattr(new, option)
            ):
                yield f"{below(name)}{option}"


def check_restart(before: Configuration, after: Configuration) -> None:
    """`ConfigError` that names what needs a restart."""
    if keys := list(need_restart(before, after)):
        raise ConfigError(
            f"{', '.join(keys)}: cannot change while the switch runs: restart it, or take that "
            "back; nothing has changed"
        ).of(Problem.RESTART, keys=", ".join(keys))


def _fields() -> dict[Key, str]:
    """The options of `serve` by the keys of a file."""
    return {
        tuple((entry.at or f"serve.{name}").split(".")): name
        for name, entry in options_of(ServeConfig).items()
        if entry.in_file
    }


def _files(config: ServeConfig) -> tuple[Flat, Overlay]:
    """The file of the configuration, and that of what is kept."""
    file, saved = _read(config.config), config.files.saved
    return file, read_saved(saved) if saved.exists() else Overlay()


def read_saved(path: Path) -> Overlay:
    """What is kept there; of its values only that they can be read."""
    try:
        tables = read_tables(path)
    except ConfigError as error:
        raise ConfigError(f"{error}{_MOVE}") from None
    check_networks(path, tables)
    try:
        return overlay_of(tables)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _read(path: Path | None) -> Flat:
    tables = {} if path is None else read_known(path, set(TABLES))
    check_networks(path, tables)
    return flatten({key: value for key, value in tables.items() if key not in OTHERS})


@contextmanager
def _lines_named(config: ServeConfig) -> Iterator[None]:
    """Problems name the file that they are of, and the line there."""
    try:
        yield
    except ConfigError as error:
        said = [_with_line(line, config) for line in str(error).splitlines()]
        raise ConfigError("\n".join(said)) from None


def _with_line(problem: str, config: ServeConfig) -> str:
    place, colon, rest = problem.partition(": ")
    own = _of_list(rest, config)
    for path in (config.files.saved, config.config):  # what is saved lies over the file
        if path is None or str(path) not in place.split(_WITH):
            continue
        if own is not None and own[0] != path:
            continue
        try:
            line = line_of(path.read_text(), rest if own is None else own[1])
        except (OSError, ValueError):  # it has gone meanwhile, or is none
            continue
        if line is not None:
            hint = _MEND if path == config.files.saved else ""
            return f"{path}:{line}{colon}{rest}{hint}"
    return problem


def _of_list(problem: str, config: ServeConfig) -> tuple[Path | None, str] | None:
    """The file that one of a list is of, and the problem with its number there, which counted those
    of all files. None for what is of no list, or of no file.
    """
    if (found := _LISTED.match(problem)) is None:
        return None
    before = (*found[1].split(".")[:-1], found[2])
    try:
        file, saved = _files(config)
        said = [key for key in saved.over(file) if key[:-1] == before]
        key = said[int(found[3]) - 1]
    except (ConfigError, IndexError):
        return None
    path, flat = (
        (config.files.saved, saved.values) if key in saved.values else (config.config, file)
    )
    number = [each for each in flat if each[:-1] == before].index(key) + 1
    return path, f"{found[1]}{found[2]}[{number}]{problem[found.end() :]}"


def _make(
    began: ServeConfig,
    given: Mapping[str, Any] | None,
    file: Flat,
    saved: Overlay,
    live: Overlay,
    place: str = "",
) -> Configuration:
    path, over = began.config, saved != Overlay()
    names = [str(path)] if path is not None else []
    names += [str(began.files.saved)] if over else []
    names += ["what was changed live"] if live != Overlay() else []
    flat = live.over(saved.over(file))
    if (above := value_above(flat)) is not None:
        of = began.files.saved if above in saved.values else path
        said = f"{place or of}: {spelled(above)}: must be a table: there are keys below it"
        raise ConfigError(bounded(said))
    document = Document(place or _WITH.join(names), unflatten(flat))
    config, problems = began, ""
    try:
        check_plain({**saved.values, **live.values})
    except ValueError as error:
        raise ConfigError(bounded(f"{document}: {error}")) from None
    try:
        if given is not None:
            # The default of who began: with `--user` that is another one by now.
            told = given if ("serve", "state") in flat else {"state": began.state, **given}
            config = fill(ServeConfig, told, document, table="serve", tables=TABLES)
    except ConfigError as error:
        problems = str(error)
    try:
        plans = plan_networks(config, document)
    except ConfigError as error:
        problems = "\n".join(filter(None, (problems, str(error))))
    if problems:  # which may quote what somebody has said
        raise ConfigError(bounded(problems))
    return Configuration(
        began=began,
        given=given,
        file=file,
        saved=saved,
        live=live,
        config=config,
        plans={plan.name: attrs.evolve(plan, live=_live(plan, live)) for plan in plans},
    )


def _live(plan: NetworkPlan, live: Overlay) -> frozenset[Listen]:
    """What of it is published live."""
    before = tuple(below(plan.name).split(".")[:-1])
    return frozenset(
        rule.listen
        for rule in plan.published
        if (*before, "publish", listen_key(str(rule.listen))) in live.values
    )
