"""What becomes of a program that is started by way of another: signals, places, names."""

import os
import signal
import subprocess
import sys

import pytest

from vswitch.namespaces import enter


def run(argv, *, first=(), **options):
    command = [*first, *enter.command(argv, **options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ])
def test_signals_that_python_ignores_are_the_programs(number):
    done = run(["sh", "-c", f"kill -{number} $$"])
    assert (done.returncode, done.stderr) == (-number, "")


def test_what_the_caller_ignores_stays_ignored():
    done = run(["sh", "-c", "kill -INT $$; echo on"], first=["env", "--ignore-signal=INT"])
    assert (done.stdout, done.returncode) == ("on\n", 0)


def test_ctrl_c_before_the_program_runs_leaves_no_traceback():
    script = (
        "import os, runpy, signal, sys\n"
        "os.execvp = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['enter', '--', 'true']\n"
        "runpy.run_module('vswitch.namespaces.enter', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_no_name_is_no_program():
    done = run([""])
    assert (done.returncode, len(done.stderr.splitlines())) == (enter.NO_PROGRAM, 1)


def test_directory_that_is_gone_is_named(tmp_path):
    gone = f'cd {tmp_path} && mkdir d && cd d && rmdir ../d && exec "$@"'
    done = run(["true"], first=["sh", "-c", gone, "sh"], join=os.getpid())
    assert done.returncode == enter.CANNOT_ENTER
    assert "the directory that this was started in is gone" in done.stderr
