"""The help: of each command on one screen what is needed at first, and all options where asked."""

from __future__ import annotations

import re
import shlex

import pytest

from vswitch.cli import command_line, main
from vswitch.cli.common import GROUPS, SUMMARIES
from vswitch.errors import ExitCode

COLUMNS, LINES = 80, 24  # of a terminal
LONGER = {"proxy": 31}  # it is three programs in one


@pytest.fixture(scope="module")
def parsers():
    """The parser of each command, by its name."""
    (commands,) = (each for each in command_line()._actions if each.dest == "command")
    return commands.choices


@pytest.fixture
def said(capsys, monkeypatch):
    """What is answered to some words, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))

    def ask(*words):
        assert main(words) == ExitCode.OK
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize("command", SUMMARIES)
def test_the_help_of_a_command_fits_a_screen(said, command):
    lines = said(command, "--help").splitlines()
    assert lines[0].startswith(f"usage: vswitch {command} [OPTION ...]")
    assert lines[1] == ""
    assert len(lines) <= LONGER.get(command, LINES)
    assert max(map(len, lines)) <= COLUMNS


def test_the_help_of_all_fits_a_screen_and_lists_every_command(said):
    lines = said("--help").splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= COLUMNS
    listed = [line.split()[0] for line in said("help", "commands").splitlines()]
    assert listed == list(SUMMARIES)
    assert sorted(" ".join(GROUPS.values()).split()) == sorted(SUMMARIES)


@pytest.mark.parametrize("command", SUMMARIES)
def test_all_options_of_a_command_are_told_where_asked(said, command, parsers):
    text = said("help", command, "all")
    assert text == said(command, "--help-all")
    assert max(map(len, text.splitlines())) <= COLUMNS
    flags = {flag for action in parsers[command]._actions for flag in action.option_strings}
    told = {word.strip(",") for line in text.splitlines() for word in line.split()}
    assert flags <= told


def test_the_help_says_how_to_see_the_options_that_it_leaves_out(said):
    short, whole = said("serve", "--help"), said("help", "serve", "all")
    assert "--public" in short
    assert "--log-days" not in short
    assert "--log-days" in whole
    assert short.endswith("\n\nall options: vswitch help serve all\n")
    assert "all options:" not in whole
    assert "all options:" not in said("genkey", "--help")  # it has no others


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_action_has_an_example_that_is_a_command_line(command, parsers):
    parser = parsers[command]
    title, *examples = parser.epilog.splitlines()
    assert title == ("example:" if len(examples) == 1 else "examples:")
    shown = []
    for line in examples:
        typed = re.split(r" -- |[|<>]", line)[0]  # what is behind is not of this command
        program, *words = shlex.split(typed, comments=True)
        assert [program, words.pop(0)] == ["vswitch", command]
        args, more = parser.parse_known_args(words)
        assert not more
        shown.append(getattr(args, "action", None))
    for action in parser._actions:
        if action.dest == "action":
            assert set(action.choices) == set(shown)
