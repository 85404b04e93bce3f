"""How fast combinations are, stage by stage, with memory and arithmetic: what is timed is what `run` runs."""
