"""``python -m benchmark``, the same as the console script ``benchmark``."""

from benchmark.cli import main

if __name__ == "__main__":
    main()
