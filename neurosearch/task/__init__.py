"""Tasks: what a job does with the system that was composed."""
