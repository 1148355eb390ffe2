"""``python -m benchmark``, the same as the console script ``benchmark``."""

if __name__ == "__main__":  # worker processes import this file too, and need no command line
    import os
    import sys

    # Python looks for modules in the current folder first, so a user's `models`, or a folder of results that is called
    # `benchmark`, would win. Nothing is imported before that folder is gone, not even what could take it out.
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if not sys.flags.safe_path and os.path.realpath(sys.path[0]) != root:
        del sys.path[0]
    package = sys.modules.get("benchmark")
    if getattr(package, "__file__", None) != os.path.join(os.path.dirname(__file__), "__init__.py"):
        sys.modules.pop("benchmark", None)  # that folder's; this file was found in spite of it

    from benchmark.cli.main import main

    main()
