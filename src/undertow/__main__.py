"""`python -m undertow` is the command `undertow`."""

from undertow.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
