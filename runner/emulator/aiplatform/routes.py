"""All methods of Vertex AI that are supported here."""

from __future__ import annotations

from runner.emulator.aiplatform import (
    control_routes,
    endpoint_routes,
    model_garden,
    model_routes,
    operation_routes,
    predictions,
    tuning_routes,
)
from runner.emulator.routing import Method

METHODS: list[Method] = [
    *tuning_routes.METHODS,
    *predictions.METHODS,
    *operation_routes.METHODS,
    *endpoint_routes.METHODS,
    *model_routes.METHODS,
    *model_garden.METHODS,
    *control_routes.METHODS,
]
