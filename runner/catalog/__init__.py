"""What the service can tune, where, with which limits and prices: the data in `catalog.toml` with types."""

from runner.catalog.models import (
    LOCATIONS,
    Location,
    Machine,
    Model,
    TuningMode,
    UnknownModelError,
    find_model,
    load_catalog,
    machines,
    models,
)

__all__ = [
    "LOCATIONS",
    "Location",
    "Machine",
    "Model",
    "TuningMode",
    "UnknownModelError",
    "find_model",
    "load_catalog",
    "machines",
    "models",
]
