"""The classifier role: which of several labels a pair of query and product would get."""
