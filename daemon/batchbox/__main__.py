"""`python -m batchbox`: the command line, where its script is not on the path."""

from batchbox.cli import main

if __name__ == "__main__":
    main()
