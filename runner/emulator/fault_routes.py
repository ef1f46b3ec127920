"""`/_emulator/faults`, and how a request is broken.

Only programs on this machine may arm faults: a server with a token may be reachable from others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message

from runner.emulator import faults
from runner.emulator.errors import ApiError, invalid, not_found
from runner.emulator.fault_register import Faults
from runner.emulator.faults import JOB_ACTIONS, Fault, FaultSyntaxError
from runner.emulator.routing import ApiRequest, Method, json_response

HEADER = "x-emulator-fault"
"""Request header with ACTION[=VALUE][,OPTION=VALUE…] for this one request, or for the job that it creates."""
_CREATE_JOB = "aiplatform.projects.locations.tuningJobs.create"

logger = logging.getLogger(__name__)


async def answer(method: Method, request: ApiRequest) -> Response | None:
    """Return the method's answer as the faults leave it; None when the connection has been closed instead.

    Raises:
        ApiError: the method's, or a fault's.
    """
    connection = request
    struck, for_job = _of(method, request)
    after: Fault | None = None
    for fault in struck:
        if fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        elif fault.action == "status":
            raise fault.error()
        elif fault.action == "drop":
            await _hang_up(connection)
            return None
        elif fault.action == "agent-missing":
            request = await _refuse_agent(fault, request)
        else:
            after = fault
    response = await method.handler(request)
    if for_job is not None:
        # Before the executor sees the job: nothing is awaited between its creation and here.
        for_job.job = json.loads(bytes(response.body))["name"]
        request.emulator.faults.add(for_job)
    if after is None:
        return response
    if after.action == "status-after":
        raise after.error()
    await _hang_up(connection)
    return None


def _of(method: Method, request: ApiRequest) -> tuple[list[Fault], Fault | None]:
    """Return the faults of a request, and one for the job that it creates."""
    struck = request.emulator.faults.of_request(method.id, request.scope["path"])
    text = request.headers.get(HEADER)
    if text is None:
        return struck, None
    _require_loopback(request)
    for_job = method.id == _CREATE_JOB and text.split("=")[0].split(",")[0].strip() in JOB_ACTIONS
    try:
        fault = faults.parse(text, method=faults.JOB if for_job else method.id)
    except FaultSyntaxError as error:
        raise invalid(f"Invalid {HEADER}: {error}.") from error
    if for_job:
        return struck, fault
    return ([*struck, fault] if fault.befalls(request.scope["path"]) else struck), None


async def _refuse_agent(fault: Fault, request: ApiRequest) -> ApiRequest:
    """Refuse a policy that names the tuning agent; else return the request with its body to be read again."""
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


async def _hang_up(request: ApiRequest) -> None:
    """Close the connection without a byte of an answer, as a broken network would."""
    cycle: Any = getattr(request.receive, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise ApiError("UNIMPLEMENTED", "Connections cannot be dropped under this server.")
    transport.abort()
    while not cycle.disconnected:
        await asyncio.sleep(0)


def _require_loopback(request: ApiRequest) -> None:
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ApiError("PERMISSION_DENIED", "Faults are taken from this machine only.")


def report_unused(armed: Faults) -> None:
    """Log the faults that have befallen nothing; called when the server stops."""
    for fault in armed.unused():
        logger.warning("unused fault %d: %s", fault.id, fault.text)


def methods(known: Callable[[], list[str]]) -> list[Method]:
    """Return the methods of this module.

    Args:
        known: the ids of all methods, to tell a mistyped one.
    """

    async def add(request: ApiRequest) -> Response:
        """Arm faults: {"faults": [TEXT, …]}. All of them or, if one is wrong, none."""
        _require_loopback(request)
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
        """Return all faults with what they have befallen."""
        return json_response({"faults": [fault.to_json() for fault in request.emulator.faults.all()]})

    async def clear(request: ApiRequest) -> Response:
        """Remove all faults and return them, so that whoever armed them sees what they did."""
        _require_loopback(request)
        return json_response({"faults": [fault.to_json() for fault in request.emulator.faults.clear()]})

    async def remove(request: ApiRequest) -> Response:
        """Remove one fault and return it."""
        _require_loopback(request)
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
