"""Is what is served still right? Traffic against a reference, the index against the catalogue."""
