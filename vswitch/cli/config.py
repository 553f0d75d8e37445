"""`vswitch config`: the configuration of the switch: checked, shown, compared, read again, kept."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.document import inline, spelled, to_toml, unflatten
from vswitch.config.options import LookConfig, ServeConfig
from vswitch.config.sources import add_flags, shortened
from vswitch.config.words import to_name
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA

_LINE = 100  # characters, before a list is told entry by entry
_PATIENCE = 60.0  # seconds: a reload may begin networks, and waits for another one


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "config",
        "Check a configuration file, or show, compare, read again or keep what the running switch\n"
        "goes by. A reload ends no session; if something is wrong, nothing of it is done.\n"
        "What was changed live stays; --revert takes that back.",
        "vswitch config check serve.toml   # all that is wrong with it; needs no switch",
        "vswitch config show               # as TOML, and who says each key",
        "vswitch config show --join pc1    # the same of a join, exec or proxy here",
        "vswitch config diff               # what a reload would change",
        "vswitch config reload             # read the file again",
        "vswitch config save               # keep what was changed live",
    )
    actions = ("check", "show", "diff", "reload", "save")
    parser.add_argument("action", choices=actions)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="for check")
    parser.add_argument("--revert", action="store_true", help="with reload: nothing live stays")
    parser.add_argument("--join", metavar="NAME", help="with show: of this member of the host")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Check here, or ask the switch."""
    if (args.file is None) == (args.action == "check"):
        raise ConfigError("vswitch config check FILE, or vswitch config show, diff, reload, save")
    if args.revert and args.action != "reload":
        raise ConfigError("--revert is for reload")
    if args.join is not None and args.action != "show":
        raise ConfigError("--join is for show: start a member again to have it read its file")
    config = config_from(args, LookConfig)
    if args.action == "check":
        check(args.file)
        if config.json:
            print_json({"schema": SCHEMA, "file": str(args.file)})
        else:
            answer(f"{args.file}: nothing is wrong")
        return ExitCode.OK
    path = config.files.control_socket
    if args.action == "show":
        said = request(_join(config, args.join) or path, "config-state")
        lines = _shown(said)
    elif args.action == "diff":
        said = request(path, "config-diff")
        lines = _compared(said)
    elif args.action == "reload":
        said = request(path, "config-reload", _PATIENCE, revert=args.revert)
        lines = _applied(said)
    else:
        said = request(path, "config-save", _PATIENCE)
        lines = iter([f"saved: {len(said['saved'])} keys over the file"])
    if config.json:
        print_json({"schema": SCHEMA, **said})
    else:
        answer(*lines)
    differs = args.action == "diff" and any(said[key] for key in ("changes", "unsaved"))
    return ExitCode.FAILED if differs else ExitCode.OK


def _join(config: LookConfig, name: str | None) -> Path | None:
    try:
        return None if name is None else config.files.join_socket(to_name(name))
    except ValueError as error:
        raise ConfigError(f"--join {shortened(name)}: {error}") from None


def check(file: Path) -> None:
    """`ConfigError` with all that is wrong with a file, where it is one of `serve`."""
    from vswitch.serving.configuration import Configuration  # needed by no other command
    from vswitch.serving.https import certificate_of

    began = ServeConfig(config=file)
    configuration = Configuration.of_file(began)
    certificate_of(configuration.config)


def _shown(said: dict[str, Any]) -> Iterator[str]:
    values = {tuple(each["key"]): each["value"] for each in said["settings"]}
    notes = {tuple(each["key"]): each["source"] for each in said["settings"]}
    saved = f"; saved in {said['saved_file']}" if said["saved_file"] else ""
    yield f"# file {said['file'] or 'none'}{saved}"
    yield to_toml(unflatten(values), notes).rstrip("\n")


def _changes(changes: list[dict[str, Any]]) -> Iterator[str]:
    for each in changes:
        yield from _change(each["key"], each["before"], each["after"])


def _change(key: str, before: Any, after: Any) -> Iterator[str]:
    """What differs: of tables key by key, of long lists entry by entry."""
    said = [each for each in (before, after) if each is not None]
    if any(said) and all(isinstance(each, dict) for each in said):
        was, now = before or {}, after or {}
        for part in dict.fromkeys((*was, *now)):
            if was.get(part) != now.get(part):
                yield from _change(f"{key}.{spelled((part,))}", was.get(part), now.get(part))
        return
    line = f"  {key}: {_value(before)} -> {_value(after)}"
    if len(line) <= _LINE or not all(isinstance(each, list) for each in said):
        yield line
        return
    yield f"  {key}:"
    was, now = before or [], after or []
    for what, first, last, new, end in SequenceMatcher(
        None, list(map(_value, was)), list(map(_value, now)), autojunk=False
    ).get_opcodes():
        if what != "equal":
            yield from (f"    - {_value(each)}" for each in was[first:last])
            yield from (f"    + {_value(each)}" for each in now[new:end])


def _value(value: Any) -> str:
    return "none" if value is None else inline(value)


def _compared(said: dict[str, Any]) -> Iterator[str]:
    for title, key in (
        ("a reload would change:", "changes"),
        ("changed live, not saved:", "unsaved"),
        ("saved, over the file:", "saved"),
    ):
        if said[key]:
            yield title
            yield from _changes(said[key])
    if said["problem"]:
        yield f"a reload would be refused: {said['problem']}"
    if not any(said[key] for key in ("changes", "unsaved", "saved")):
        yield "no difference"


def _applied(said: dict[str, Any]) -> Iterator[str]:
    if not said["changes"]:
        yield "nothing has changed"
        return
    yield f"{len(said['changes'])} changed:"
    yield from _changes(said["changes"])
