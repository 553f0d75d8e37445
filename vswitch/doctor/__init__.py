"""What keeps a switch or a member from working: facts gathered by probes, findings drawn from them."""
