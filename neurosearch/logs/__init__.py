"""Logs of searches: which lists were shown to whom, and what was clicked and bought."""
