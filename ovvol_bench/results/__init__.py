"""Results of runs and measurements: their files, tables of them, comparisons with intervals."""
