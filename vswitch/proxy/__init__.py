"""`vswitch proxy`: connections and datagrams between programs of the host and the LAN."""
