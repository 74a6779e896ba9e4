"""`python -m secondary_sinks`, and the command `secondary-sinks`."""

import sys


def main() -> None:
    """Run the command line. An interrupt is one line also while its modules are still loaded."""
    try:
        from secondary_sinks.cli import main as run

        run()
    except KeyboardInterrupt:  # `run` catches those that come later
        print("interrupted; run the same command to start again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
