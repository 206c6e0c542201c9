"""A small decoder that is trained here: titles for queries, or queries for products."""
