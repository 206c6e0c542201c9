"""Simulated users: how a list is looked through and clicked, by the grades of its products."""
