"""ColBERT: late interaction."""
