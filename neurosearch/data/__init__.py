"""Data sets in one canonical shape: products, queries by split, graded judgments."""
