"""Runs: what was asked, the pass over the data, predictions, results and resuming."""
