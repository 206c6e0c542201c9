"""Tracking: where configs, metrics, curves and tables go besides the job's own files."""
