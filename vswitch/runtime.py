"""What a long-running program needs of Python and of libc: single errors, memory, speed.

`single_error` takes exception groups of one apart: a nursery wraps whatever leaves it in an
`ExceptionGroup`, and who calls `serve` or `join` writes `except VswitchError` and has no interest
in the nurseries inside.

`keep_memory` keeps freed memory for the next batch. Buffers of a batch are tens of kilobytes and
live for microseconds. The C library's defaults hand the top of the heap back to the kernel whenever
enough of it is free, and fetch it again, page by page, for the next batch: measured on the way of a
sealed unit of 62 kB, that made up to two thirds of all processor time. With these settings a
process keeps what its busiest moment needed. Only glibc has `mallopt`; elsewhere it does nothing,
and says so by returning False.

`allow_files` raises the soft limit of open files, which is often 1,024.

`optimised` tells whether this interpreter is one of the quick builds.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3

_KEEP = 64 * 1024 * 1024  # bytes at the top of the heap that are not given back
_GROW = 1024 * 1024  # bytes more than needed with each call to the kernel
_LARGE = 32 * 1024 * 1024  # bytes from which a block is mapped by itself; the most glibc takes


@contextmanager
def single_error() -> Iterator[None]:
    """Around a nursery: an exception that is alone in its groups comes out as it is."""
    alone: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        alone = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if isinstance(alone, BaseExceptionGroup):
            raise
    if alone is not None:
        context = alone.__context__
        try:
            raise alone
        finally:
            alone.__context__ = context  # not the group, which would be a cycle
            del alone, context  # or its traceback and this frame would keep each other alive


def keep_memory() -> bool:
    """Set the allocator for a process that moves batches; whether it took the settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_TRIM_THRESHOLD, _KEEP), (_M_TOP_PAD, _GROW), (_M_MMAP_THRESHOLD, _LARGE))
    return all(mallopt(name, value) == 1 for name, value in settings)


def optimised(variables: Mapping[str, object] | None = None) -> bool | None:
    """Whether this Python was built with profile-guided optimisation; None if it does not tell.

    What CPython's `configure` would optimise with stands in its variables whether it was asked to
    or not; that it was asked is in its arguments. Debian optimises in its own way and leaves the
    first empty; PyPy has neither.

    Args:
        variables: of the build, those of `sysconfig` unless given.
    """
    known = sysconfig.get_config_vars() if variables is None else variables
    arguments, would_use = known.get("CONFIG_ARGS"), known.get("PGO_PROF_USE_FLAG")
    if not arguments or not would_use:
        return None
    return "--enable-optimizations" in str(arguments)


def allow_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, as far as that goes; how many are allowed now."""
    try:
        import resource
    except ImportError:  # a system without such a limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
