"""A live system over HTTP: service, cache, batching, query log, search page."""
