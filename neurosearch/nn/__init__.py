"""Networks that several roles share."""
