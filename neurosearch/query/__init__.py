"""Query processing before retrieval."""
