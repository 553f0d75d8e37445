"""What a switch does on its LAN as one of the hosts there, beyond moving frames: one file for each
service. A service that fails ends itself, and no frame stops for it.
"""
