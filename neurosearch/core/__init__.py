"""Artifacts, recipes, runtime and data types: what every package stands on."""
