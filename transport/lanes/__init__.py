"""The streams of a session: reliable (bulk and sparse, on KCP) and datagrams."""
