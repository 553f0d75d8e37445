"""The API: bodies and queries of whoever may ask, for each row of its table.

Invariant: a value of the row's type, or ConfigError, and nothing else.
"""

import json
from collections.abc import Iterator
from contextlib import suppress

from vswitch.api.routes import SWITCH
from vswitch.api.values import read_body_untrusted, read_query_untrusted
from vswitch.errors import ConfigError

BODIES = {row.operation: row.body for row in SWITCH.rows if row.body is not None}
QUERIES = {row.operation: row.query for row in SWITCH.rows if row.query is not None}
_SAID = {
    "body": {"name": "pc1", "to": "pc2", "expires": 60.5, "public": ["a.example:1"], "again": True},
    "rules": {"table": {"rules": ["allow pc1 pc2:22/tcp"]}, "place": "rules"},
    "odd": {"name": None, "public": "abc", "expires": 1e300, "mac": [], "vlan": {}, "x": 1},
}


def run(data: bytes) -> None:
    """The same bytes as each body and each query."""
    for kind in BODIES.values():
        with suppress(ConfigError):
            read_body_untrusted(data, kind)
    text = data.decode("latin-1")
    for query in QUERIES.values():
        with suppress(ConfigError):
            read_query_untrusted(text, query)


def seeds() -> Iterator[tuple[str, bytes]]:
    """A body, and a query, of each kind."""
    for name, said in _SAID.items():
        yield name, json.dumps(said).encode()
    yield "deep", b"[" * 2000
    yield "query", b"port=pc1&port=pc%32&vlan=7&since=3&follow=true&network=lab&seconds=1e3"
    yield "query-odd", b"since=1_0&follow=maybe&seconds=nan&count=%ff&&=&listen"
