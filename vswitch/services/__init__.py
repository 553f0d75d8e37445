"""What a switch does on its LAN as one of the hosts there, beyond moving frames."""
