"""Learned sparse encoders: a text's weights over a vocabulary."""
