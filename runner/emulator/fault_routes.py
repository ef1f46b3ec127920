"""`/_emulator/faults`, and the application of faults to requests.

Only programs on this machine can add faults, because other machines can reach a server with a token.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from runner.emulator import faults
from runner.emulator.errors import ApiError, invalid, not_found
from runner.emulator.fault_register import Faults
from runner.emulator.fault_streams import BrokenAnswer, BrokenRequest, hang_up
from runner.emulator.faults import JOB_ACTIONS, Fault, FaultSyntaxError
from runner.emulator.routing import ApiRequest, Method, json_response

HEADER = "x-emulator-fault"
"""Request header with ACTION[=VALUE][,OPTION=VALUE…] for this request, or for the job that it creates."""
TEST_HEADER = "x-retry-test-id"
"""Request header with the ID of the retry test of the request."""
_CREATE_JOB = "aiplatform.projects.locations.tuningJobs.create"

logger = logging.getLogger(__name__)


def of_retry_test(request: ApiRequest) -> bool:
    """Return whether a request belongs to a retry test.

    The suites send requests that the service refuses, and expect the testbench's answer; such a request is accepted.
    """
    return TEST_HEADER in request.headers


async def answer(method: Method, request: ApiRequest) -> ASGIApp | None:
    """Return the method's response after the faults; None if the connection was closed instead.

    Raises:
        ApiError: the method's, or a fault's.
    """
    struck, for_job = _of(method, request)
    if not struck and for_job is None:
        return await method.handler(request)
    return await _broken(method, request, struck, for_job)


async def _broken(method: Method, request: ApiRequest, struck: list[Fault], for_job: Fault | None) -> ASGIApp | None:
    """Do the same as `answer` if there are faults: those that fire, and one for the created job."""
    connection = request
    after: Fault | None = None
    cut: Fault | None = None
    broken: BrokenRequest | None = None
    for fault in struck:
        if fault.after is not None:
            if fault.action == "drop-after" or request.method == "GET":
                cut = fault
            else:
                broken = BrokenRequest(request, fault)
                request = broken.request
        elif fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.action == "status":
            raise fault.error()
        elif fault.action == "drop":
            await hang_up(connection, reset=fault.value == "reset")
            return None
        elif fault.action == "agent-missing":
            request = await _refuse_agent(fault, request)
        else:
            after = fault
    response = await _handled(method, request, broken)
    if broken is not None and broken.fired:
        await _end(broken.fault, connection)
        return None
    if response is None:
        return None
    if for_job is not None:
        # Before the executor sees the job, because nothing is awaited between its creation and this line.
        for_job.job = json.loads(bytes(response.body))["name"]
        request.emulator.faults.add(for_job)
    if after is not None:
        await _end(after, connection)
        return None
    return response if cut is None else BrokenAnswer(response, cut, connection)


async def _handled(method: Method, request: ApiRequest, broken: BrokenRequest | None) -> Response | None:
    """Return the method's response; None if a fault has removed its data."""
    try:
        return await method.handler(request)
    except (ApiError, ClientDisconnect):
        if broken is None or not broken.fired:
            raise
        return None


async def _end(fault: Fault, connection: ApiRequest) -> None:
    """Answer with a fault's error, or close the connection, instead of the response. Raises ApiError."""
    if fault.action.startswith("status"):
        raise fault.error()
    await hang_up(connection)


def _of(method: Method, request: ApiRequest) -> tuple[list[Fault], Fault | None]:
    """Return the faults of a request, and one for the job that it creates."""
    armed = request.emulator.faults
    test = request.headers.get(TEST_HEADER, "") if armed.armed else ""
    struck = armed.of_request(method.id, request.scope["path"], test)
    text = request.headers.get(HEADER)
    if text is None:
        return struck, None
    require_loopback(request)
    if method.id == _CREATE_JOB:
        text = text.strip().removeprefix(f"{faults.JOB}:")
    for_job = method.id == _CREATE_JOB and text.split("=")[0].split(",")[0].strip() in JOB_ACTIONS
    try:
        fault = faults.parse(text, method=faults.JOB if for_job else method.id)
    except FaultSyntaxError as error:
        raise invalid(f"Invalid {HEADER}: {error}.") from error
    if for_job:
        return struck, fault
    return ([*struck, fault] if fault.after is not None or fault.befalls(request.scope["path"]) else struck), None


async def _refuse_agent(fault: Fault, request: ApiRequest) -> ApiRequest:
    """Refuse a policy that names the tuning agent; otherwise return the request with its body."""
    body = await request.read_body()
    if faults.TUNING_AGENT in body.decode("latin-1") and fault.befalls(request.scope["path"]):
        request.emulator.faults.save()
        member = next(word for word in body.decode("latin-1").split('"') if faults.TUNING_AGENT in word)
        raise invalid(f"Service account {member.removeprefix('serviceAccount:')} does not exist.")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    again = ApiRequest(request.scope, receive)
    again.emulator, again.fields = request.emulator, request.fields
    return again


def require_loopback(request: ApiRequest) -> None:
    """Refuse clients that are not on this machine. Raises ApiError PERMISSION_DENIED."""
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ApiError("PERMISSION_DENIED", "Faults are taken from this machine only.")


def report_unused(armed: Faults) -> None:
    """Log the faults that never fired; called when the server stops."""
    for fault in armed.unused():
        logger.warning("unused fault %d: %s", fault.id, fault.text)


def methods(known: Callable[[], list[str]]) -> list[Method]:
    """Return the methods of this module.

    Args:
        known: the IDs of all methods, to detect misspelled ones.
    """

    async def add(request: ApiRequest) -> Response:
        """Add faults: {"faults": [TEXT, …]}. All of them or, if one is invalid, none."""
        require_loopback(request)
        texts = (await request.read_json()).get("faults")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise invalid('The body must be {"faults": ["METHOD:ACTION…", …]}.')
        try:
            parsed = [faults.parse(text) for text in texts]
        except FaultSyntaxError as error:
            raise invalid(f"Invalid fault: {error}.") from error
        for fault in parsed:
            if faults.unknown_method(fault.method, known):
                raise invalid(
                    f"Invalid fault: no method is named {fault.method!r} (`runner explain emulator` lists them)."
                )
        return json_response({"faults": [request.emulator.faults.add(fault).to_json() for fault in parsed]})

    async def list_faults(request: ApiRequest) -> Response:
        """Return all faults with their counts."""
        return json_response({"faults": [fault.to_json() for fault in request.emulator.faults.all()]})

    async def clear(request: ApiRequest) -> Response:
        """Remove all faults and return them with their counts."""
        require_loopback(request)
        return json_response({"faults": [fault.to_json() for fault in request.emulator.faults.clear()]})

    async def remove(request: ApiRequest) -> Response:
        """Remove one fault and return it."""
        require_loopback(request)
        text = request.fields["fault"]
        gone = request.emulator.faults.clear(int(text)) if text.isdecimal() and len(text) < 10 else []
        if not gone:
            raise not_found(f"There is no fault {text!r}.")
        return json_response(gone[0].to_json())

    return [
        Method("emulator.faults.add", "POST", "/_emulator/faults", add),
        Method("emulator.faults.list", "GET", "/_emulator/faults", list_faults),
        Method("emulator.faults.clear", "DELETE", "/_emulator/faults", clear),
        Method("emulator.faults.remove", "DELETE", "/_emulator/faults/{fault}", remove),
    ]
