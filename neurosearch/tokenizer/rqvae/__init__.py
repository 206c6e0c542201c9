"""RQ-VAE."""
