"""What a dataset's rows hold, for tests that compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.datasets.reading.opening import Row, open_dataset


def opened(path: Path, **options: Any) -> tuple[str, str, list[Row]]:
    with open_dataset(path, **options) as dataset:
        return dataset.layout, dataset.description, list(dataset.rows())


def bodies(rows: list[Row]) -> list[Any]:
    return [row.problem or (row.value if row.value is not None else json.loads(row.data)) for row in rows]
