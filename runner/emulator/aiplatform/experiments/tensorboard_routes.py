"""tensorboards, their experiments, runs and timeSeries, read-only except deletion."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from runner.emulator import paging, store
from runner.emulator.aiplatform import filters, scope, tuning_experiments
from runner.emulator.aiplatform.experiments import series
from runner.emulator.aiplatform.experiments.handlers import get_and_delete, missing
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.definitions import documents
from runner.emulator.errors import invalid, not_here
from runner.emulator.resources import children, listing, reading
from runner.emulator.routing import ApiRequest, Handler, Method, json_response

Document = dict[str, Any]

_KINDS = (
    ("tensorboards", tuning_experiments.TENSORBOARD, "Tensorboard"),
    ("experiments", tuning_experiments.EXPERIMENT, "TensorboardExperiment"),
    ("runs", tuning_experiments.RUN, "TensorboardRun"),
)
"""Collections, each below the previous one; kinds of documents; Google's messages."""


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the name of the resource in a path, or of the parent of its collection."""
    parts = [scope.resolve(connection, request.fields).name]
    for collection in ("tensorboards", "experiments", "runs", "timeSeries"):
        if collection in request.fields:
            parts.append(f"{collection}/{request.fields[collection]}")
    return "/".join(parts)


def _selected(request: ApiRequest, found: Sequence[Document], message: str) -> list[Document]:
    query = request.query_params
    matches = filters.compile_filter(query.get("filter", ""), documents.fields("aiplatform.v1beta1", message))
    return filters.ordered([item for item in found if matches(item)], query.get("orderBy", ""), "createTime")


def _listing(collection: str, kind: str, message: str, above: tuple[str, str, str] | None) -> Handler:
    field = collection if above is None else f"tensorboard{collection[0].upper()}{collection[1:]}"

    @listing(field, filtered=True)
    def listed(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
        parent = _name(connection, request)
        if above:
            store.get(connection, above[1], parent, missing=missing(above[2], parent))
        below = children(connection, kind, f"{parent}/{collection}")
        return _selected(request, [_counted(connection, item) for item in below], message)

    return listed


def _counted(connection: sqlite3.Connection, item: Document) -> Document:
    """Return a document for a response: a Tensorboard with the number of its runs."""
    if "isDefault" not in item:
        return item
    runs = len(children(connection, tuning_experiments.RUN, item["name"]))
    return item | ({"runCount": runs} if runs else {})


@listing("tensorboardTimeSeries", filtered=True)
def list_series(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
    """Return one page of the time series of a run that match a filter."""
    found = [series.shown(item) for item in series.of_run(connection, _name(connection, request))]
    return _selected(request, found, "TensorboardTimeSeries")


@reading
def get_series(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Return one time series."""
    return series.shown(series.get(connection, _name(connection, request)))


@reading
def read(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Return the points of one time series, reduced to the requested number."""
    query = request.query_params
    found = series.get(connection, _name(connection, request))
    points = series.matching(query.get("filter", ""))(found["points"])
    return {"timeSeriesData": series.data(found, series.thinned(points, query.get("maxDataPoints")))}


@reading
def batch_read(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Return the points of several time series of one Tensorboard, at most 1000 of each."""
    board = _name(connection, request)
    store.get(connection, tuning_experiments.TENSORBOARD, board, missing=missing("Tensorboard", board))
    names = request.query_params.getlist("timeSeries") + request.query_params.getlist("time_series")
    if not names:
        raise invalid("The time_series field is required.")
    found = []
    for name in names:
        where, _ = scope.split_name(connection, name.partition("/tensorboards/")[0] + "/tensorboards/-", "tensorboards")
        full = f"{where.name}/tensorboards/{name.partition('/tensorboards/')[2]}"
        if not full.startswith(f"{board}/"):
            raise invalid(f"The time series {name} is not in the Tensorboard {board}.")
        item = series.get(connection, full)
        found.append(series.data(item, series.thinned(item["points"], None)))
    return {"timeSeriesData": found}


async def export(request: ApiRequest) -> Response:
    """Return one page of the points of one time series."""
    body = await request.read_json()
    if body.get("orderBy"):
        raise not_here("The emulator exports data points in the order of their steps.")
    found = request.emulator.store.read(lambda connection: series.get(connection, _name(connection, request)))
    points = series.matching(body.get("filter", ""))(found["points"])
    page, token = paging.page(points, body.get("pageSize"), body.get("pageToken"), default=1000, maximum=10_000)
    return json_response(({"timeSeriesDataPoints": page} if page else {}) | ({"nextPageToken": token} if token else {}))


def _methods() -> list[Method]:
    made: list[Method] = []
    path, prefix = PARENT, "aiplatform.projects.locations"
    above = None
    for collection, kind, message in _KINDS:
        path, prefix = f"{path}/{collection}", f"{prefix}.{collection}"
        got, deleted = get_and_delete(kind, message, _name, _counted)
        one = f"{path}/{{{collection}}}"
        made += [
            Method(f"{prefix}.list", "GET", path, _listing(collection, kind, message, above)),
            Method(f"{prefix}.get", "GET", one, got),
            Method(f"{prefix}.delete", "DELETE", one, deleted),
        ]
        if collection == "tensorboards":
            made.append(Method(f"{prefix}.batchRead", "GET", f"{one}:batchRead", batch_read))
        path, above = one, (collection, kind, message)
    path, prefix = f"{path}/timeSeries", f"{prefix}.timeSeries"
    one = f"{path}/{{timeSeries}}"
    return [
        *made,
        Method(f"{prefix}.list", "GET", path, list_series),
        Method(f"{prefix}.get", "GET", one, get_series),
        Method(f"{prefix}.read", "GET", f"{one}:read", read),
        Method(f"{prefix}.exportTensorboardTimeSeries", "POST", f"{one}:exportTensorboardTimeSeries", export),
    ]


METHODS = _methods()
