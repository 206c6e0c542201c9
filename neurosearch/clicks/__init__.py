"""Click models: what users look at, what attracts them, when they stop."""
