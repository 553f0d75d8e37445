"""Fuzzing that can go on: hostile bytes against all that faces the outside, with invariants.

    python -m tests.fuzz --list
    python -m tests.fuzz --minutes 3                    # all targets, each in its own process
    python -m tests.fuzz --minutes 60 --target session --save
    python -m tests.fuzz --replay FILE                  # one input again, with its traceback

A target is a function from bytes to None that raises when an invariant is broken. It reads its
input with `reader.Reader` as a list of deeds, so any bytes mean something, and the same always.
With atheris the search is guided by the coverage of `transport` and `vswitch`; without it, inputs
of the corpus are mutated blindly, and the first line of the output says so.
"""
