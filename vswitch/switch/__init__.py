"""The switch: FDB, forwarding, ports with their egress queues, and the contract of a device."""
