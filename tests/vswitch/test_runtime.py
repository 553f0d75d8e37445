"""A single error comes out of its groups; several stay together; open files."""

import subprocess
import sys
import sysconfig

import pytest

from vswitch.runtime import optimised, single_error


class Boom(Exception):
    pass


def test_an_error_that_is_alone_comes_out_as_it_is():
    error = Boom("x")
    error.__cause__ = OSError("y")
    with pytest.raises(Boom) as caught, single_error():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [error])])
    assert caught.value is error
    assert isinstance(error.__cause__, OSError)
    assert error.__context__ is None


@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt])
def test_what_is_no_group_passes(kind):
    with pytest.raises(kind), single_error():
        raise kind


def test_several_errors_stay_a_group():
    with pytest.raises(ExceptionGroup) as caught, single_error():
        raise ExceptionGroup("outer", [Boom("a"), Boom("b")])
    assert len(caught.value.exceptions) == 2


def test_base_exceptions_come_out_too():
    with pytest.raises(KeyboardInterrupt), single_error():
        raise BaseExceptionGroup("outer", [KeyboardInterrupt()])


def test_no_error_is_no_error():
    with single_error():
        value = 1
    assert value == 1


WOULD_USE = "-fprofile-use -fprofile-correction"


@pytest.mark.parametrize(
    ("variables", "answer"),
    [
        ({"CONFIG_ARGS": "'--prefix=/x'", "PGO_PROF_USE_FLAG": WOULD_USE}, False),
        (
            {"CONFIG_ARGS": "'--enable-optimizations' 'CC=gcc'", "PGO_PROF_USE_FLAG": WOULD_USE},
            True,
        ),
        # Debian's python3.11 to 3.15, and PyPy.
        ({"CONFIG_ARGS": "'--enable-shared' '--prefix=/usr'", "PGO_PROF_USE_FLAG": ""}, None),
        ({"CONFIG_ARGS": None, "PGO_PROF_USE_FLAG": None}, None),
        ({}, None),
    ],
)
def test_an_interpreter_tells_how_it_was_built(variables, answer):
    assert optimised(variables) is answer


def test_it_is_asked_about_the_one_that_runs():
    assert optimised() is optimised(sysconfig.get_config_vars())


@pytest.mark.linux
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes():
    """In a process of its own: who has lowered the upper limit cannot raise it again."""
    script = (
        "import resource as r; from vswitch.runtime import allow_files as a;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 300));"
        "print(a(50), a(200), r.getrlimit(r.RLIMIT_NOFILE), a(400))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "50 200 (200, 300) 300\n", done.stderr
