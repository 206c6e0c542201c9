"""NeuroSearch: which product-search system is better, by how much, at what cost."""

__version__ = "0.1.0"
