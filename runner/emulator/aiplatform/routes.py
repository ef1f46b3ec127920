"""All supported methods of Vertex AI."""

from __future__ import annotations

from starlette.responses import Response

from runner.emulator.aiplatform import (
    batch_routes,
    control_routes,
    endpoint_routes,
    generate_content,
    model_exports,
    model_garden,
    model_routes,
    model_versions,
    operation_routes,
    places,
    predictions,
    resource_policies,
    scope,
    tuning_routes,
)
from runner.emulator.aiplatform.experiments import metadata_routes, tensorboard_routes
from runner.emulator.definitions.checking import checked
from runner.emulator.routing import ApiRequest, Handler, Method


def _guarded(method: Method) -> Method:
    """Return the method with a check, before any other, that Vertex AI is enabled."""
    inner: Handler = method.handler

    async def handler(request: ApiRequest) -> Response:
        request.emulator.store.read(lambda connection: scope.resolve(connection, request.fields))
        return await inner(request)

    return Method(method.id, method.http, method.path, handler, method.style)


_ALL = [
    *tuning_routes.METHODS,
    *metadata_routes.METHODS,
    *tensorboard_routes.METHODS,
    *predictions.METHODS,
    *generate_content.METHODS,
    *operation_routes.METHODS,
    *batch_routes.METHODS,
    *endpoint_routes.METHODS,
    *model_versions.METHODS,
    *model_exports.METHODS,
    *model_routes.METHODS,
    *resource_policies.METHODS,
    *places.METHODS,
    *model_garden.METHODS,
    *control_routes.METHODS,
]

METHODS: list[Method] = [
    _guarded(checked(method)) if "{location}" in method.path else checked(method) for method in _ALL
]
