"""Persons: what somebody bought before, as scores of products."""
