"""`vswitch demo`: two hosts and a switch in network namespaces, and proof that it works.

`story.py` runs it, with the real `serve` and `join`; `echo.py`, `transfer.py` and `watch.py` are
what the hosts do, without any tool but Python; `report.py` is what came out.
"""
