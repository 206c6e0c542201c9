"""Fusion: several runs to one."""
