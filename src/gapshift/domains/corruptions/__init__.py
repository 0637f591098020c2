"""Corruptions of raw items, by family and severity: what a deployment meets and training did not."""
