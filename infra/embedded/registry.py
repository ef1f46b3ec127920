"""Every resource type that the program uses."""

from __future__ import annotations

from typing import Any

from infra.embedded.activation import ServiceAgentsType, ServiceIdentityType, ServiceType
from infra.embedded.documents import DOCUMENT_TYPES, DocumentType
from infra.embedded.perimeters import PERIMETER_TYPES, PerimeterEntryType
from infra.embedded.policies import POLICY_TYPES
from infra.embedded.resource_type import ResourceType
from infra.embedded.rest import EmbeddedError
from infra.embedded.storage import BucketType, ObjectType

BUCKET, OBJECT = BucketType.token, ObjectType.token
ENDPOINT = "gcp:vertex/aiEndpoint:AiEndpoint"

_TYPES: tuple[ResourceType, ...] = (
    ServiceType(),
    ServiceIdentityType(),
    ServiceAgentsType(),
    BucketType(),
    ObjectType(),
    *DOCUMENT_TYPES,
    *POLICY_TYPES,
    *PERIMETER_TYPES,
)

TYPES: dict[str, ResourceType] = {item.token: item for item in _TYPES}


def find_type(token: str) -> ResourceType:
    """Return a type by Pulumi's token. Raises EmbeddedError for one that the program does not use."""
    if token not in TYPES:
        raise EmbeddedError(f"{token} cannot be made without the Pulumi engine")
    return TYPES[token]


def named(token: str, inputs: dict[str, Any]) -> str:
    """Return a resource's ID in the form for imports, regardless of who created it; "" if the service chooses IDs.

    Types that can be created again without harm have no such ID either: they never conflict with existing resources.
    """
    kind = TYPES.get(token)
    return kind.named(inputs) if isinstance(kind, BucketType | DocumentType | PerimeterEntryType) else ""
