"""How many bytes may be under way, what is lost and sent again, and how fast it leaves."""
