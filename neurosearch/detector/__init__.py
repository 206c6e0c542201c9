"""Has the traffic changed? Statistics of two samples, calibrated by permutation."""
