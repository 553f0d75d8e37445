"""The process that is a lab host: it holds the host's namespaces and calls functions in them.

    python -m vswitch.lab.agent FD DIRECTORY

Over the connection FD come pickled `(function, args, kwargs)`, one at a time; back goes
`(True, result)` or `(False, exception)`. The end of the connection is the end of the host, also
in the middle of a call: the agent removes DIRECTORY and exits, so that nothing stays behind when
its lab is killed.
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


def main(fd: int, directory: Path) -> None:
    connection: Connection = Connection(fd)
    end = threading.Thread(target=_end_with, args=(fd, directory), name="end")
    end.start()
    try:
        while True:
            function, args, kwargs = connection.recv()
            try:
                answer = (True, function(*args, **kwargs))
            except Exception as error:
                answer = (False, _portable(error))
            connection.send(answer)
    except (EOFError, OSError):
        pass
    end.join()


def _end_with(fd: int, directory: Path) -> None:
    """Wait until the other end of the connection is closed; then end, whatever is being called."""
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always told
    poll.poll()
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.rmdir(directory.parent)  # the last host of a killed lab takes its directory away
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
    main(int(sys.argv[1]), Path(sys.argv[2]))
