"""models: export, a copy of a model's artifacts in Cloud Storage."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import access, long_running, models, scope
from runner.emulator.aiplatform.model_routes import name_of
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.aiplatform.tuning_validation import split_uri
from runner.emulator.errors import ApiError, invalid
from runner.emulator.iam import agents
from runner.emulator.routing import ApiRequest, Method, json_response
from runner.emulator.storage import objects

FORMAT = "custom-trained"
"""The format of uploaded or trained models: unchanged artifacts."""


async def export(request: ApiRequest) -> Response:
    """Copy the artifacts of a model to a new folder; the operation ends when they are complete."""
    body = await request.read_json()
    emulator = request.emulator
    config = body.get("outputConfig", {})
    if config.get("exportFormatId", FORMAT) != FORMAT:
        raise invalid(f"Export format {config['exportFormatId']} is not supported by the model; it has {FORMAT}.")
    given = config.get("artifactDestination", {}).get("outputUriPrefix", "")
    if not given:
        raise invalid("The output_config.artifact_destination.output_uri_prefix field is required.")
    bucket, above = split_uri(given, "output_uri_prefix")

    def look(connection: sqlite3.Connection) -> tuple[str, str, str, list[str]]:
        name = name_of(connection, request)
        source = str(models.get(connection, name).get("artifactUri", ""))
        if not source:
            raise ApiError("FAILED_PRECONDITION", f"Model {name} has no artifacts that could be exported.")
        held, folder = split_uri(source, "artifact_uri")
        prefix = f"{folder.rstrip('/')}/"
        where = scope.resolve(connection, request.fields)
        needs = [access.Need(held, prefix, access.READ), access.Need(bucket, above, access.WRITE)]
        access.require(connection, [agents.aiplatform_agent(where.project.number)], needs)
        return name, held, prefix, list(objects.list_names(connection, held, prefix))

    name, held, prefix, names = emulator.store.read(look)
    now = emulator.clock.timestamp()
    short = name.partition("@")[0].rpartition("/")[2]
    target = "/".join(filter(None, (above.strip("/"), f"model-{short}", FORMAT, now[:19].replace(":", "-"))))
    with tempfile.TemporaryDirectory(prefix="emulator-export-") as directory:
        for number, item in enumerate(names):
            file = Path(directory, str(number))
            about = await asyncio.to_thread(objects.materialize, emulator, held, item, file)
            kind = str(about.get("contentType", "application/octet-stream"))
            await objects.put_file(emulator, bucket, f"{target}/{item[len(prefix) :]}", file, kind)
            file.unlink()

    def done(connection: sqlite3.Connection) -> dict[str, Any]:
        output = {"artifactOutputUri": f"gs://{bucket}/{target}"}
        return long_running.done(connection, request, name, "ExportModel", "ExportModelResponse", outputInfo=output)

    return json_response(await emulator.store.write(done))


METHODS = [Method("aiplatform.projects.locations.models.export", "POST", f"{PARENT}/models/{{model}}:export", export)]
