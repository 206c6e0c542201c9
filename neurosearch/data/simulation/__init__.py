"""The parts of the simulated shop: its world, products, queries, judgments, images, sessions."""
