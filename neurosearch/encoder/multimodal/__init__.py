"""Encoders of words and pictures."""
