"""Looking at a running switch or member, and telling it things, from another process."""
