"""Training objectives over scores of queries and documents."""
