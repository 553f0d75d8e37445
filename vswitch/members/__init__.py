"""The protocol between a member and the switch: hello to bye, and a channel as a device."""
