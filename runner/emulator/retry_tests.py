"""`/retry_test`: faults for the requests of one client, as the conformance suites of Google's libraries ask for them.

The protocol is that of Google's storage testbench: `POST /retry_test` takes instructions for each method and returns an
id; requests that carry it in `x-retry-test-id` meet them, one each, in their order. They are faults like all others.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection
from typing import Any

from starlette.responses import Response

from runner.emulator.errors import ApiError, invalid, not_found
from runner.emulator.fault_routes import require_loopback
from runner.emulator.faults import Fault, FaultSyntaxError, parse
from runner.emulator.routing import ApiRequest, Method, json_response

Json = dict[str, Any]

_KIB = 1024
_A_FEW = 4
"""Bytes after which a stream breaks that is to break somewhere."""
_FORMS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"return-(\d{3})\Z"), "status={0}"),
    (re.compile(r"return-(\d{3})-after-(\d{1,9})K\Z"), "status={0},after={1}"),
    (re.compile(r"return-reset-connection\Z"), "drop=reset"),
    (re.compile(r"return-broken-stream\Z"), f"drop,after={_A_FEW}"),
    (re.compile(r"return-broken-stream-after-(\d{1,9})K\Z"), "drop,after={0}"),
    (re.compile(r"return-broken-stream-final-chunk-after-(\d{1,9})B\Z"), "drop-after,after={0}"),
    (re.compile(r"stall-for-(\d{1,4})s-after-(\d{1,9})K\Z"), "delay={0},after={1}"),
]
"""Instructions to the faults that they are; numbers before a K are KiB."""
_ALIASES = {
    "storage.bucket_acl.": "storage.bucketAccessControls.",
    "storage.default_object_acl.": "storage.defaultObjectAccessControls.",
    "storage.object_acl.": "storage.objectAccessControls.",
    "storage.hmacKey.": "storage.projects.hmacKeys.",
    "storage.notification.": "storage.notifications.",
    "storage.serviceaccount.": "storage.projects.serviceAccount.",
}
"""How the suites call methods, to how Google's definition does."""


def method_of(name: str) -> str:
    """Return the id of the method that a suite calls so."""
    for alias, prefix in _ALIASES.items():
        if name.startswith(alias):
            return prefix + name.removeprefix(alias)
    return name.replace("testIamPermission", "testIamPermissions") if name.endswith("testIamPermission") else name


def fault_of(method: str, instruction: str) -> Fault:
    """Return the fault that an instruction is. Raises ApiError INVALID_ARGUMENT."""
    for form, text in _FORMS:
        match = form.match(instruction)
        if match is None:
            continue
        numbers = [
            int(number) * (_KIB if instruction[match.end(place)] == "K" else 1)
            if match.end(place) < len(instruction)
            else int(number)
            for place, number in enumerate(match.groups(), 1)
        ]
        try:
            fault = parse(f"{text.format(*numbers)},times=1", method=method_of(method))
        except FaultSyntaxError as error:
            raise invalid(f"Invalid instruction {instruction!r}: {error}.") from error
        fault.asked = f"{method} {instruction}"
        return fault
    raise invalid(f"Invalid instruction {instruction!r} (`runner explain faults` lists those there are).")


def methods(known: Callable[[], list[str]]) -> list[Method]:
    """Return the methods of this module. `known` gives the ids of all methods, to tell a mistyped one."""

    async def create(request: ApiRequest) -> Response:
        return await _create(request, known())

    return [
        Method("emulator.retryTests.create", "POST", "/retry_test", create),
        Method("emulator.retryTests.get", "GET", "/retry_test/{test}", get),
        Method("emulator.retryTests.delete", "DELETE", "/retry_test/{test}", delete),
        Method("emulator.retryTests.list", "GET", "/retry_tests", list_tests),
    ]


async def _create(request: ApiRequest, known: Collection[str]) -> Response:
    """Arm the instructions of a new test; return it with its id."""
    require_loopback(request)
    body = await request.read_json()
    instructions = body.get("instructions")
    if not isinstance(instructions, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in instructions.values()
    ):
        raise invalid('The body must be {"instructions": {METHOD: [INSTRUCTION, …]}}.')
    if str(body.get("transport") or "HTTP").upper() != "HTTP":
        # The suites skip what is answered so.
        raise ApiError("UNIMPLEMENTED", "There is no gRPC here: the transport of a test is HTTP.")
    number = secrets.token_hex(16)
    for method in instructions:
        if method_of(method) not in known:
            raise invalid(f"Invalid instructions: {method!r} is not a method; `runner explain emulator` lists them.")
    armed = [fault_of(method, text) for method, texts in instructions.items() for text in texts]
    for fault in armed:
        fault.test = number
        request.emulator.faults.add(fault)
    return json_response(_shown(number, armed, list(instructions)))


async def get(request: ApiRequest) -> Response:
    """Return a test with the instructions that nothing has met yet."""
    faults = request.emulator.faults.of_test(request.fields["test"])
    if not faults:
        raise not_found(f"Retry Test {request.fields['test']} not found.")
    return json_response(_shown(request.fields["test"], faults))


async def list_tests(request: ApiRequest) -> Response:
    """Return all tests."""
    numbers = dict.fromkeys(fault.test for fault in request.emulator.faults.all() if fault.test)
    tests = [_shown(number, request.emulator.faults.of_test(number)) for number in numbers]
    return json_response({"retry_test": tests})


async def delete(request: ApiRequest) -> Response:
    """Forget a test."""
    require_loopback(request)
    faults = request.emulator.faults.of_test(request.fields["test"])
    if not faults:
        raise not_found(f"Retry Test {request.fields['test']} not found.")
    for fault in faults:
        request.emulator.faults.clear(fault.id)
    return Response(f"Deleted {request.fields['test']}", media_type="text/plain")


def _shown(number: str, faults: list[Fault], methods: list[str] | None = None) -> Json:
    left: dict[str, list[str]] = {method: [] for method in methods or []}
    for fault in faults:
        method, _, instruction = fault.asked.partition(" ")
        left.setdefault(method, [])
        if not fault.spent:
            left[method].append(instruction)
    return {"id": number, "instructions": left, "transport": "HTTP", "completed": not any(left.values())}
