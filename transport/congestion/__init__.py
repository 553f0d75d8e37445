"""Congestion control: the congestion window, pacing, and recovery of what is lost."""
