"""`python -m secondary_sinks`."""

from secondary_sinks.cli import main

if __name__ == "__main__":
    main()
