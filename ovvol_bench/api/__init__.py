"""The Python API: what the commands do, as functions with the same names. Use it as ``ovvol_bench.run``."""
