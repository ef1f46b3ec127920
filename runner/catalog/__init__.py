"""What the service can tune, where, within which limits and at which price: data in `catalog.toml`, typed here."""

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
