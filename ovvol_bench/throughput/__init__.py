"""Speed, memory and arithmetic of combinations, stage by stage: what is timed is what `run` runs."""
