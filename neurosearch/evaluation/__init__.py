"""Evaluation: protocols, gains, metrics, statistics, latency."""
