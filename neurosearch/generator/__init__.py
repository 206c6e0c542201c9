"""The generator role: a query to semantic IDs, by a sequence model and a search over its trie."""
