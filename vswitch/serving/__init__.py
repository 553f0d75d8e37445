"""What exists only while `vswitch serve` runs."""
