"""Re-rankers: a new order of candidates."""
