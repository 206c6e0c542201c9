"""Two systems in one list: how they are mixed, and who is credited with a click."""
