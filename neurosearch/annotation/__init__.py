"""Judging on a budget: which query-product pairs people judge next, and what follows from it."""
