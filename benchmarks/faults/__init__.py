"""What must go on while something is wrong, with real processes: see `__main__.py`."""
