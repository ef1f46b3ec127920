"""`python -m runner.infrastructure MODULE …` runs a module of the Pulumi program."""

from __future__ import annotations

import sys

from runner.infrastructure import start


def main() -> None:
    """Run it with the arguments that follow its name, and exit with its status."""
    module, *arguments = sys.argv[1:]
    entry: object = start(module)
    sys.argv[:] = [module, *arguments]
    sys.exit(entry.main(arguments))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
