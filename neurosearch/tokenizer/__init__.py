"""Semantic-ID tokenizers: vectors of items to short sequences of codes."""
