"""Types that are one entry of a service perimeter: read, change the list, write it back, retry after a conflict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType
from infra.embedded.rest import RequestError, repeat_conflicts


@dataclass(frozen=True, slots=True)
class PerimeterEntryType(ResourceType):
    """One project of a perimeter."""

    token: str
    part: str
    """`status`, which is enforced, or `spec`, which only logs."""
    fixed: frozenset[str] = frozenset({"perimeterName", "resource"})

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return the entry."""
        return {"resource": inputs["resource"]}

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Add it. Raises RequestError if it is in the perimeter, as the provider checks before its request."""
        if self.find(context, inputs) is not None:
            name = self.token.rpartition(":")[2]
            said = f"Unable to create {name}, existing object already found: map[resource:{inputs['resource']}]"
            raise RequestError(said, http=httpx.codes.CONFLICT)
        self._change(context, inputs, lambda entries: [*entries, inputs["resource"]])
        return Live(self.named(inputs), self.body(inputs))

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Look it up in its perimeter."""
        perimeter = context.rest.find("access", inputs["perimeterName"])
        there = perimeter is not None and inputs["resource"] in self._entries(perimeter)
        return Live(self.named(inputs), self.body(inputs)) if there else None

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Look it up: it has the same place, regardless of who added it."""
        return self.read(context, "", inputs)

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Return that it can be adopted: like a grant, it is the same, regardless of who created it."""
        return True

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Change nothing: it has no inputs that can change."""
        return live

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Remove it; other entries remain."""
        if self.find(context, inputs) is not None:
            self._change(context, inputs, lambda entries: [one for one in entries if one != inputs["resource"]])
        return True

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Return the inputs, and the policy that the provider finds in the name."""
        return {**inputs, "accessPolicyId": str(inputs["perimeterName"]).partition("/servicePerimeters/")[0]}

    def _entries(self, perimeter: dict[str, Any]) -> list[str]:
        entries: list[str] = perimeter.get(self.part, {}).get("resources", [])
        return entries

    def named(self, inputs: Inputs) -> str:
        """Return its ID in the provider's format."""
        return f"{inputs['perimeterName']}/{inputs['resource']}"

    def _change(self, context: Context, inputs: Inputs, edit: Callable[[list[str]], list[str]]) -> None:
        name = str(inputs["perimeterName"])

        def change() -> None:
            perimeter = context.rest.call("access", "GET", name)
            body = {self.part: {"resources": edit(self._entries(perimeter))}, "etag": perimeter["etag"]}
            params = {"updateMask": f"{self.part}.resources,etag"}
            context.rest.wait("access", context.rest.call("access", "PATCH", name, body, params=params))

        repeat_conflicts(change, name)


PERIMETER_TYPES = (
    PerimeterEntryType("gcp:accesscontextmanager/servicePerimeterResource:ServicePerimeterResource", "status"),
    PerimeterEntryType(
        "gcp:accesscontextmanager/servicePerimeterDryRunResource:ServicePerimeterDryRunResource", "spec"
    ),
)
