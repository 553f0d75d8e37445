"""What a managed switch does beyond forwarding: one module for each feature.

A feature looks at the settings of a port and gives the steps that its frames take (`Stage`), or
says who reaches whom (`Reach`). `features/manager.py` puts them on the ports; the order of stages
is that of
`managed.FEATURES`.
"""
