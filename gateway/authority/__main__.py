"""`python -m gateway.authority` is `licet authority`."""

from gateway.authority.cli import app

if __name__ == "__main__":
    app()
