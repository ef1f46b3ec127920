"""A process that pushes a folder to a hub: the client reads its environment once, when it is imported.

python -m tests.serving.pushing DIRECTORY REPOSITORY… [--public]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from runner.errors import RunnerError
from runner.serving import hub


def main() -> None:
    """Push to each; print for each the state that was found and where it went, or the error. Exits as the last did."""
    directory, *repositories = [word for word in sys.argv[1:] if not word.startswith("--")]
    code = 0
    for repository in repositories:
        try:
            plan = hub.plan_push(Path(directory), repository, private="--public" not in sys.argv)
            print(json.dumps({**plan.to_json(), "address": hub.push(plan)}))
            code = 0
        except RunnerError as error:
            print(json.dumps(error.to_json()))
            code = error.exit_code
    raise SystemExit(code)


if __name__ == "__main__":
    main()
