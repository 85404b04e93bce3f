"""Metrics: pure functions on columns of boxes, and thin accumulators around them."""
