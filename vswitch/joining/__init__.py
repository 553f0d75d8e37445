"""What exists only while `vswitch join` runs."""
