"""A/B trials: who sees what, how many users are needed, and what their numbers say."""
