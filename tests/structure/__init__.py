"""Measures the house: who imports whom, how much code there is, and what stands in it twice.

    python -m tests.structure graph                   # rooms, floors, circles, arrows back up
    python -m tests.structure lines [--against DIR]   # lines of code, beside another checkout's
    python -m tests.structure repeats [--tests]       # runs of lines that stand in several places

Reads the sources and imports none of them.
"""
