"""Position bias: how often a rank is looked at, relative to the first."""
