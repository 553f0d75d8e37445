"""What keeps a switch or a member from working: probes gather facts, findings follow."""
