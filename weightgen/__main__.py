"""`python -m weightgen` is the command `weightgen`."""

from weightgen.cli import main

if __name__ == "__main__":
    main()
