"""``python -m dferkit``: the command line, where ``dferkit`` is not on the path."""

from dferkit.cli.main import main

if __name__ == "__main__":
    main()
