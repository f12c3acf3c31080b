"""`python -m gateway` is the `licet` command."""

from gateway.cli import main

if __name__ == "__main__":
    main()
