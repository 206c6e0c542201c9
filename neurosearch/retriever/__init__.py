"""Retrievers: queries to runs. They compose: a hybrid holds retrievers and a fusion."""
