"""Members, invites and addresses: a SQLite file and the rules for them."""
