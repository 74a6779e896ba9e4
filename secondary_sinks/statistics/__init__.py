"""Intervals and tests over texts, with the error rates they promise."""
