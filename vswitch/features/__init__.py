"""What a managed switch does beyond forwarding: one file for each feature.

A feature reads settings of the switch and of ports, gives the stages that frames of a port pass, or
says who reaches whom; `base.py` has its hooks. `manager.py` puts all of them on the ports of a
switch, in the order of its `FEATURES`; `settings.py` puts their settings together.
"""
