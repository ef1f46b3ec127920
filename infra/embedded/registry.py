"""Every resource type that the program uses."""

from __future__ import annotations

from infra.embedded.activation import ServiceAgentsType, ServiceIdentityType, ServiceType
from infra.embedded.documents import DOCUMENT_TYPES
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
)

GOOGLE_ONLY = frozenset(
    {
        "gcp:accesscontextmanager/servicePerimeterDryRunResource:ServicePerimeterDryRunResource",
        "gcp:accesscontextmanager/servicePerimeterResource:ServicePerimeterResource",
    }
)
"""Types of parts that only exist on Google Cloud: a perimeter is the organisation's."""

TYPES: dict[str, ResourceType] = {item.token: item for item in _TYPES}


def find_type(token: str) -> ResourceType:
    """Return a type by Pulumi's token. Raises EmbeddedError for one that the program does not use."""
    if token not in TYPES:
        raise EmbeddedError(f"{token} cannot be made without the Pulumi engine")
    return TYPES[token]
