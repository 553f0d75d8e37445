"""What the switch itself does on a LAN, beyond carrying its frames: one file for each service.

All of them speak as one host of the LAN (`host.py`), in an ordinary port of the switch. A service
that fails ends itself, and no frame stops for it.
"""
