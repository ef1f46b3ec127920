"""`cloudscheduler.googleapis.com`: jobs that call a function of this emulator when the emulator's clock says so."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.responses import Response

from runner.emulator import store
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError, already_exists, invalid, not_here
from runner.emulator.iam import accounts
from runner.emulator.resources import Document, listing, patched, reading, writing
from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.serverless import executions, functions
from runner.emulator.serverless.cron import Cron
from runner.emulator.serverless.documents import check_id, parent

logger = logging.getLogger(__name__)

SERVICE = "cloudscheduler.googleapis.com"
KIND = "schedule"
INVOKER = "roles/run.invoker"
_RETRY = {"maxRetryDuration": "0s", "minBackoffDuration": "5s", "maxBackoffDuration": "3600s", "maxDoublings": 5}
"""What Google fills in where a request says nothing of retries."""
_TICK_SECONDS = 0.25
_LONGEST_ADDRESS = 2083
"""Characters, as Google's reference of `httpTarget.uri` says."""
_running: set[asyncio.Task[None]] = set()


def _checked(connection: sqlite3.Connection, body: Document) -> Document:
    target = body.get("httpTarget")
    address = str(target.get("uri", "")) if isinstance(target, dict) else ""
    if len(address) > _LONGEST_ADDRESS:
        raise invalid(f"The field 'job.http_target.uri' has more than {_LONGEST_ADDRESS} characters.")
    if not isinstance(target, dict) or not _names_a_host(address):
        raise invalid("The field 'job.http_target.uri' is required; the emulator supports only HTTP targets.")
    if body.get("timeZone", "Etc/UTC") not in {"Etc/UTC", "UTC"}:
        raise not_here("The emulator supports only the time zone Etc/UTC.")
    account = (target.get("oidcToken") or {}).get("serviceAccountEmail")
    if account and not accounts.exists(connection, account):
        raise invalid(f"Service account {account} does not exist.")
    Cron(str(body.get("schedule", "")))
    target.setdefault("httpMethod", "POST")
    return {"timeZone": "Etc/UTC", "attemptDeadline": "180s", "retryConfig": dict(_RETRY), **body}


def _names_a_host(address: str) -> bool:
    try:
        return bool(urlsplit(address).netloc)
    except ValueError:  # such as http://[half
        return False


def _scheduled(emulator: Emulator, body: Document) -> Document:
    following = Cron(body["schedule"]).after(emulator.clock.now())
    return {**body, "scheduleTime": following.isoformat().replace("+00:00", "Z")}


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Make a job."""
    body = request.document
    above = parent(connection, request, SERVICE)
    name = str(body.get("name") or f"{above}/jobs/job-{store.next_number(connection, 'schedule')}")
    check_id(name.rsplit("/", 1)[-1])
    if store.find(connection, KIND, name) is not None:
        raise already_exists(f"Job {name} already exists.")
    made = {**_checked(connection, body), "name": name, "state": "ENABLED"}
    made["userUpdateTime"] = request.emulator.clock.timestamp()
    return store.insert(connection, KIND, name, _scheduled(request.emulator, made))


def _named(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    return store.get(connection, KIND, f"{parent(connection, request, SERVICE)}/jobs/{request.fields['job']}")


get = reading(_named)


@listing("jobs")
def list_jobs(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
    """List the jobs of a location."""
    prefix = f"{parent(connection, request, SERVICE)}/jobs/"
    return [body for _, body in store.scan(connection, KIND, prefix)]


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Change the fields that `updateMask` names."""
    stored = _named(connection, request)
    changed = patched(request, stored)
    changed = {**_checked(connection, changed), "name": stored["name"], "state": stored["state"]}
    changed["userUpdateTime"] = request.emulator.clock.timestamp()
    return store.put(connection, KIND, stored["name"], _scheduled(request.emulator, changed))


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete a job."""
    store.remove(connection, KIND, _named(connection, request)["name"])


async def run_now(request: ApiRequest) -> Response:
    """Call a job's target now, and answer when it has ended."""
    stored = request.emulator.store.read(lambda connection: _named(connection, request))
    await attempt(request.emulator, stored)
    return json_response(request.emulator.store.read(lambda connection: _named(connection, request)))


async def start(emulator: Emulator) -> None:
    """Watch the clock until the event loop ends."""
    task = asyncio.create_task(_watch(emulator), name="scheduler")
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _watch(emulator: Emulator) -> None:
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        try:
            for job in emulator.store.read(lambda connection: [body for _, body in store.scan(connection, KIND)]):
                due = datetime.fromisoformat(job["scheduleTime"]).astimezone(UTC) <= emulator.clock.now()
                if due and job["state"] == "ENABLED":
                    await attempt(emulator, job)
        except Exception:
            logger.exception("the scheduler failed; it continues")


async def attempt(emulator: Emulator, job: Document) -> None:
    """Call the target of a job, and note how that ended and when the next time is. Missed times are not made up."""
    status: Document = {}
    try:
        await _call(emulator, job)
    except ApiError as error:
        status = error.to_status()
        logger.error("%s failed: %s", job["name"], error.message)

    def work(connection: sqlite3.Connection) -> None:
        stored = store.find(connection, KIND, job["name"])
        if stored is not None:
            noted = {**stored, "lastAttemptTime": emulator.clock.timestamp(), "status": status}
            store.put(connection, KIND, job["name"], _scheduled(emulator, noted))

    await emulator.store.write(work)


async def _call(emulator: Emulator, job: Document) -> None:
    """Call a function of this emulator. Raises ApiError: nothing else is called, and a failure is one."""
    target = job["httpTarget"]
    address = urlsplit(target["uri"])
    parts = address.path.strip("/").split("/")
    if len(parts) != 5 or parts[:2] != ["functions", "run"]:
        raise ApiError("UNIMPLEMENTED", f"The emulator calls only its own functions, not {target['uri']}.")
    _, _, project, location, name = parts
    above = f"projects/{project}/locations/{location}"

    def look(connection: sqlite3.Connection) -> tuple[Document, Document]:
        function = store.get(connection, functions.KIND, f"{above}/functions/{name}")
        return function, functions.invokers(connection, f"{above}/services/{name}")

    function, policy = emulator.store.read(look)
    caller = f"serviceAccount:{(target.get('oidcToken') or {}).get('serviceAccountEmail', '')}"
    granted = [item for item in policy.get("bindings", []) if item["role"] == INVOKER]
    if not any({caller, "allUsers"} & set(item["members"]) for item in granted):
        raise ApiError("PERMISSION_DENIED", f"{caller} may not call {name}: it lacks {INVOKER}.")
    answer = await executions.run(emulator, function, f"{address.scheme}://{address.netloc}")
    for line in answer.logged:
        logger.info("%s: %s", name, line)
    if answer.status >= 400:
        raise ApiError("INTERNAL", f"{name} answered {answer.status}: {answer.text}")
