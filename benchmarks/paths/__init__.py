"""Slow and lossy paths, with real processes: `python -m benchmarks.paths`.

`cells` says which paths, `flow` runs a TCP stream and pings, `matrix`, `peers` and `fairness`
measure one cell each, `verdict` holds it against the targets, `report` shows it.
"""
