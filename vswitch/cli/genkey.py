"""`vswitch genkey`: make a key pair ahead of time."""

from __future__ import annotations

import argparse
import base64
import sys

from transport.crypto.identity import PrivateKey, create_key_file
from vswitch.cli.common import Subparsers, add_command, answer, warn_of_readers
from vswitch.errors import ConfigError, ExitCode


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "genkey",
        "Make a private key in FILE (mode 0600, never overwritten) and print its public key.\n"
        "Without FILE the private key goes to standard output, if that is not a terminal.\n"
        "Serve and join make their own keys; this is for those who want to know one before.",
        "vswitch genkey server.key",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="file to make")


def run(args: argparse.Namespace) -> int:
    """Print the public key of a new file, or a private key into a pipe."""
    if args.file is not None:
        answer(create_key_file(args.file).public.text())
        return ExitCode.OK
    if sys.stdout.isatty():
        raise ConfigError(
            "a private key is not shown on a terminal: give a FILE, or redirect the output"
        )
    key = PrivateKey.generate()
    warn_of_readers("vswitch genkey FILE")
    answer(base64.b64encode(key.raw()).decode("ascii"))
    return ExitCode.OK
