"""The project's benchmarks. None of it is installed; run it from a checkout as root.

`python -m benchmarks.compare` sets the switch beside other programs that make one LAN of many
hosts. `python benchmarks/idle.py` says what an idle switch costs.
"""
