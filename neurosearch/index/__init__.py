"""Indexes: vectors to nearest neighbours, in FAISS."""
