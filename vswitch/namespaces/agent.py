"""The process that holds namespaces and calls functions in them.

    python -m vswitch.namespaces.agent [--kill] FD DIRECTORY

Over the connection FD come pickled `(function, args, kwargs)`, one at a time; back goes
`(True, result)` or `(False, exception)`, and the file descriptors of a result that has some. The
end of the connection is the end of all, also in the middle of a call: the agent removes DIRECTORY
and exits, so that nothing stays behind when its holder is killed. With `--kill` whatever runs in
its user namespace is killed before.
"""

from __future__ import annotations

import os
import pickle
import select
import shutil
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from vswitch.namespaces.answers import Answers, kill_all_in


def main(fd: int, directory: Path, *, kill: bool) -> None:
    connection: Connection = Connection(fd)
    end = threading.Thread(target=_end_with, args=(fd, directory, kill), name="end")
    end.start()
    answers = Answers(connection)
    try:
        while True:
            function, args, kwargs = connection.recv()
            try:
                answer = (True, function(*args, **kwargs))
            except Exception as error:
                answer = (False, _portable(error))
            answers.send(*answer)
    except (EOFError, OSError):
        pass
    end.join()


def _end_with(fd: int, directory: Path, kill: bool) -> None:
    """Wait until the other end of the connection is closed; then end, whatever is being called."""
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always told
    poll.poll()
    if kill:
        kill_all_in("/proc/self/ns/user")
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.rmdir(directory.parent)  # the last one of a killed lab takes its directory away
    except OSError:
        pass
    os._exit(0)


def _portable(error: Exception) -> Exception:
    """The exception itself where it survives pickling, else its text; with where it happened."""
    where = "".join(traceback.format_exception(error))
    error.__cause__ = error.__context__ = None
    portable: Exception = error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        portable = RuntimeError(repr(error))
    portable.add_note(where)
    return portable


if __name__ == "__main__":
    main(int(sys.argv[-2]), Path(sys.argv[-1]), kill="--kill" in sys.argv[1:-2])
