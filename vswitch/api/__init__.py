"""One API of a running switch, member or proxy: HTTP and JSON, by a table of routes.

Its page, its command line and programs of others use it alike, over TCP and over the Unix socket.
"""
