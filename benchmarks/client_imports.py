"""CPU time and memory of importing Google's clients in a new interpreter, compared with `import click`.

    python -m benchmarks.client_imports

Prints one JSON object with the best of several runs for each. docs/decisions/0002-clients.md contains the results.
"""

from __future__ import annotations

import json
import sys

from benchmarks.cli_start import measure

RUNS = 5
IMPORTS = {
    "click": "import click",
    "runner.gcp.rest": "import runner.gcp.rest",
    "httpx": "import httpx",
    "google.auth + httpx": "import google.auth, google.auth.transport.requests, httpx",
    "google.cloud.storage": "import google.cloud.storage",
    "google.genai": "from google import genai; from google.genai import types",
    "aiplatform_v1beta1 (gapic)": "from google.cloud import aiplatform_v1beta1",
    "vertexai.tuning": "from vertexai.tuning import sft",
    "vertexai.preview.model_garden": "from vertexai.preview import model_garden",
}


def compare(runs: int = RUNS) -> dict[str, object]:
    """Return CPU milliseconds and megabytes of each import without the bare interpreter's, and the ratio to click."""
    bare_cpu, bare_memory = measure([sys.executable, "-c", "pass"], runs)
    rows: dict[str, dict[str, float]] = {}
    for name, code in IMPORTS.items():
        cpu, memory = measure([sys.executable, "-c", code], runs)
        rows[name] = {
            "cpuMilliseconds": round(cpu - bare_cpu, 1),
            "megabytes": round(memory - bare_memory, 1),
        }
    for row in rows.values():
        row["timesClick"] = round(row["cpuMilliseconds"] / rows["click"]["cpuMilliseconds"], 1)
    return {"bareCpuMilliseconds": round(bare_cpu, 1), "imports": rows}


if __name__ == "__main__":
    print(json.dumps(compare(), indent=2))
