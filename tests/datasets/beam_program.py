"""What the tests run in an environment with Apache Beam: the commands' own functions, in pipelines of several workers.

    python beam_program.py TASKS.json

Imports nothing of the tests: that environment has this package as the wheels that workers install, and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from runner.datasets.checks import check_files
from runner.datasets.distributed import converting, splitting
from runner.datasets.distributed.checking import BeamEngine
from runner.datasets.distributed.pipelines import Beam
from runner.datasets.reading import native
from runner.errors import RunnerError


def main() -> None:
    """Carry tasks out and print what each gave as one JSON object."""
    tasks: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    found = []
    for task in tasks:
        options = ["--direct_num_workers=2", f"--direct_running_mode={task['mode']}"]
        try:
            with Beam("DirectRunner", options, task["range_bytes"]) as beam:
                found.append(_carry_out(beam, task))
        except RunnerError as error:
            found.append({"error": error.to_json()})
    import runner

    print(json.dumps({"package": runner.__file__, "compiled": native.is_installed(), "found": found}))


def _carry_out(beam: Beam, task: dict[str, Any]) -> dict[str, Any]:
    path = Path(task["path"])
    if task["what"] == "check":
        report = check_files(path, Path(task["validation"]), near_duplicates=True, engine=BeamEngine(beam))
        return report.to_json()
    if task["what"] == "convert":
        return converting.convert_file(beam, path, Path(task["output"]), task["form"]).to_json()
    training, validation = map(Path, task["outputs"])
    return splitting.split_file(beam, path, training, validation, share=task["share"], seed=task["seed"]).to_json()


if __name__ == "__main__":  # workers in processes of their own import this file
    main()
