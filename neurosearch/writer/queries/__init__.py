"""A small decoder that is trained here: queries for products, and the parts of `titles`."""
