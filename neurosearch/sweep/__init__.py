"""Multiruns: checks before the first job, tables after the last."""
