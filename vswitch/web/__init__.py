"""HTTPS and WebSockets: the listener at port 443, and what reaches it from a member."""
