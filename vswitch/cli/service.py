"""`vswitch service`: have systemd run a switch or members of this host.

The units that come with the package are the one source; what differs here is put in as they are
written. Invariants: a unit without our first line is neither replaced (but with `--force`) nor
deleted; nothing secret is ever in a unit. Raises `VswitchError`s alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from vswitch.cli.common import Subparsers, add_command, answer, installed, say
from vswitch.config.units import BOOTED, CONFIG, SERVE, STATE
from vswitch.config.words import to_name
from vswitch.errors import ConfigError, ExitCode, NotFound, PrivilegeError, VswitchError
from vswitch.state import StateDir, file_error, write_file

UNITS = Path("/etc/systemd/system")
MARK = "# Written by `vswitch service install`; `vswitch service remove` deletes it.\n"
_PACKAGED = Path("/usr/bin/vswitch")
_HOMES = ("/home", "/root", "/run/user")  # of which ProtectHome= leaves nothing


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "service",
        "Have systemd run the switch (serve) or a member (join NAME) of this host, as the user\n"
        "vswitch and from each boot on. A member has joined by hand once before. status ends\n"
        "with code 0 if it runs.",
        "vswitch service install join pc1",
        "vswitch service status join pc1",
        "vswitch service remove join pc1",
    )
    parser.add_argument("action", choices=("install", "remove", "status"))
    parser.add_argument("what", choices=("serve", "join"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="the member; for join alone")
    parser.add_argument("--print", action="store_true", help="show the unit, and change nothing")
    parser.add_argument(
        "--now",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start it, not only from the next boot on (yes)",
    )
    parser.add_argument("--force", action="store_true", help="replace a unit of somebody else")
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=STATE, help=f"its state directory ({STATE})"
    )


def run(args: argparse.Namespace) -> int:
    """Show the unit, or do what was asked for."""
    if (args.name is None) != (args.what == "serve"):
        raise ConfigError("vswitch service install|remove|status serve, or join NAME")
    if args.name is None:
        file = unit = SERVE
    else:
        try:
            name = to_name(args.name)
        except ValueError as error:
            raise ConfigError(f"NAME: {error}") from None
        file, unit = "vswitch-join@.service", f"vswitch-join@{name}.service"
    if args.print:
        answer(_text(file, args.state).rstrip("\n"))
        return ExitCode.OK
    if not BOOTED.is_dir():
        raise VswitchError(
            f"systemd does not run here ({BOOTED} is not there): have what starts programs here "
            f"run `vswitch {args.what}`"
        )
    if args.action == "status":
        return _status(unit)
    if os.geteuid() != 0:
        raise PrivilegeError(f"to {args.action} a service takes root: run it with sudo")
    if args.action == "install":
        _install(args, file, unit)
    else:
        _remove(file, unit)
    return ExitCode.OK


def _text(file: str, state: Path) -> str:
    """The unit as this host needs it."""
    text = installed(f"lib/systemd/system/{file}").read_text()
    exec_line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    words = exec_line.removeprefix("ExecStart=").split(" ")
    words[0] = _word("this vswitch", _program())
    if state != STATE:
        words[-1] = _word("--state", state)
        mine = "StateDirectory=vswitch\nStateDirectoryMode=0700\n"
        text = text.replace(mine, f"ReadWritePaths={words[-1]}\n")
    return MARK + text.replace(exec_line, "ExecStart=" + " ".join(words))


def _program() -> Path:
    program = Path(sysconfig.get_path("scripts")) / "vswitch"
    if _PACKAGED.exists() and (not program.exists() or _PACKAGED.samefile(program)):
        return _PACKAGED
    return program


def _word(what: str, path: Path) -> str:
    """A path as a word of a unit; `ConfigError` for one that a unit of ours cannot use."""
    text = str(path)
    if not path.is_absolute() or any(c.isspace() or c in "\"'\\;$" for c in text):
        raise ConfigError(f"{what}: {text!r} has to be absolute, without spaces, quotes, $ or ;")
    if any(path.is_relative_to(home) for home in _HOMES):
        raise ConfigError(f"{what}: {text} is in a home directory, which services do not see")
    return text.replace("%", "%%")


def _install(args: argparse.Namespace, file: str, unit: str) -> None:
    path = UNITS / file
    text = _text(file, args.state)
    if path.exists() and not _is_ours(path) and not args.force:
        raise ConfigError(f"{path} is not of `vswitch service`: --force replaces it")
    if args.name is None and not CONFIG.exists():
        source = installed("share/vswitch/vswitch.toml")
        raise NotFound(
            f"{CONFIG} is not there: `install -D -m 644 {source} {CONFIG}`, and set `public` in it"
        )
    files = StateDir(args.state)
    # A switch of this very host lets in who is here, without a string.
    if args.name is not None and not (files.profile(args.name).exists() or files.registry.exists()):
        raise NotFound(
            f"{args.name} has not joined yet: run `vswitch join STRING --name {args.name} "
            f"--state {args.state}`, and end it with Ctrl-C when it is connected"
        )
    for tool, folder in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        source = installed(f"lib/{folder}/vswitch.conf")
        if shutil.which(tool):
            _do(tool, *(["--create"] if folder == "tmpfiles.d" else []), str(source))
        else:
            say(f"vswitch: {tool} is not here: what {source} says has to be there already")
    if args.state == STATE:  # what root has made there, be it a link; another is its owner's
        _do("chown", "-R", "-P", "vswitch:vswitch", os.path.realpath(STATE))
    if args.name is None:
        _check_config()
    write_file(path, text.encode())
    try:
        path.chmod(0o644)
    except OSError as error:
        raise file_error("unit", path, error) from None
    _do("systemctl", "daemon-reload")
    _do("systemctl", "enable", *(["--now"] if args.now else []), unit)
    say(f"vswitch: {unit} is enabled" + (" and runs" if args.now else ""))


def _check_config() -> None:
    """As the user that will read it: root may read what that user may not."""
    user = ("setpriv", "--reuid=vswitch", "--regid=vswitch", "--clear-groups")
    done = _called(*user, str(_program()), "config", "check", str(CONFIG))
    if done.returncode:
        said = done.stderr.strip().replace("vswitch: error: ", "") or "no reason"
        raise ConfigError(f"the service, whose user is vswitch, cannot use {CONFIG}: {said}")


def _remove(file: str, unit: str) -> None:
    path = UNITS / file
    if not path.exists():
        raise NotFound(f"{path} is not there: nothing to remove")
    if not _is_ours(path):
        raise ConfigError(f"{path} is not of `vswitch service`: it stays; see systemctl disable")
    _do("systemctl", "disable", "--now", unit)
    if any(each.name != unit for each in UNITS.glob("*.wants/vswitch-join@*")) and "@" in file:
        say(f"vswitch: {unit} is stopped and disabled; {path} stays for the other members")
        return
    try:
        path.unlink()
    except OSError as error:
        raise file_error("unit", path, error) from None
    _do("systemctl", "daemon-reload")
    say(f"vswitch: {unit} is stopped, disabled and removed")


def _is_ours(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(MARK.encode())
    except OSError as error:
        raise file_error("unit", path, error) from None


def _status(unit: str) -> int:
    said = [_ask(each, unit) for each in ("is-enabled", "is-active")]
    answer(f"{unit}: {', '.join(said)}")
    return ExitCode.OK if said[1] == "active" else ExitCode.FAILED


def _ask(verb: str, unit: str) -> str:
    return _called("systemctl", verb, unit).stdout.strip() or "not-found"


def _do(*words: str) -> None:
    done = _called(*words)
    if done.returncode:
        raise VswitchError(f"`{' '.join(words)}` failed: {done.stderr.strip() or 'no reason'}")


def _called(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise VswitchError(f"cannot run {words[0]}: {error.strerror}") from None
