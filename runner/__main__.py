"""`python -m runner` is the command line `runner`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C while it is being imported ends it as Ctrl-C does later."""
    try:
        from runner.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
