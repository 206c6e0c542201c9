"""Bi-encoders trained by contrast."""
