"""Search engines behind one protocol: words, vectors and filters in one place."""
