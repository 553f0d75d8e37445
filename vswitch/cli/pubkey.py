"""`vswitch pubkey`: the public key of a private one."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

from transport.crypto.identity import PrivateKey, load_key_file
from transport.errors import KeyFileError
from vswitch.cli.common import Subparsers, add_command, answer
from vswitch.errors import ConfigError, ExitCode

_LONGEST = 128  # characters that are read of standard input; a key has 44


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "pubkey",
        "Print the public key of the private key in FILE, or on standard input.\n"
        "That of a switch is what its members have pinned.",
        "vswitch pubkey /var/lib/vswitch/server.key",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="key file")
    parser.add_argument(
        "--fingerprint", action="store_true", help="the short form, as in status and log"
    )


def run(args: argparse.Namespace) -> int:
    """Read a private key, print the public one."""
    try:
        key = load_key_file(args.file) if args.file is not None else _standard_input()
    except KeyFileError as error:
        raise ConfigError(str(error)) from None
    answer(key.public.fingerprint() if args.fingerprint else key.public.text())
    return ExitCode.OK


def _standard_input() -> PrivateKey:
    try:
        text = sys.stdin.read(_LONGEST).strip()
        return PrivateKey.from_raw(base64.b64decode(text, validate=True))
    except ValueError:
        raise ConfigError("standard input: no private key, as `vswitch genkey` makes it") from None
