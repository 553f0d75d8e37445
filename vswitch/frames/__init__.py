"""The bytes of frames and records: parsed, built, cut and merged. No state of the switch.

Functions that see bytes from outside end in `_untrusted` and raise `vswitch.errors.BadRecord` and
nothing else.
"""
