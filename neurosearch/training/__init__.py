"""Training by Lightning: module, schedule, trainer, resume points."""
