"""Layouts of what is sent: datagrams, control items, trains of datagrams. Bytes only, no state."""
