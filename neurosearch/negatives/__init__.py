"""Negatives: where a contrastive batch's hard negatives come from, and which are refused."""
