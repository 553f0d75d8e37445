"""The switching core: frames, records, the FDB and forwarding, as plain synchronous Python.

Nothing in this package imports trio, socket, time or os. What happens depends on the arguments
alone; time is the argument `now` (seconds, monotonic). Functions that see bytes from outside end
in `_untrusted` and raise `vswitch.errors.BadRecord` and nothing else.
"""
