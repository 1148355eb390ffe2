"""``python -m benchmark``, the same as the console script ``benchmark``."""

if __name__ == "__main__":  # worker processes import this file too, and need no command line
    from benchmark.cli import main

    main()
