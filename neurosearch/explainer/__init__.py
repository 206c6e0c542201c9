"""The explainer role: why a product stands where it stands."""
