"""One member that means harm beside three that do not, with a real switch: see `__main__.py`."""
