"""The judge role: what a language model says that people would have judged."""
