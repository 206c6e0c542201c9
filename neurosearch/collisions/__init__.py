"""Collisions: what becomes of products that a tokenizer gave the same semantic ID."""
