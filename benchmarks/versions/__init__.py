"""Two versions of this project, side by side: `python -m benchmarks.versions`.

`code` says which vswitch runs, `measure` does one start of all variants, `report` sets one over the
other and shows it.
"""
