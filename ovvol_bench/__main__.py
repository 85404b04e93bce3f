"""``python -m ovvol_bench`` is ``ovvol-bench``."""

from ovvol_bench.cli import main

if __name__ == "__main__":
    main()
