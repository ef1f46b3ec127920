"""What to raise where somebody else's resource has a name of the stack, and how to name the stack's own differently."""

from __future__ import annotations

from infra.embedded.resource_type import TakenError
from infra.urns import key_of

_SUFFIX = "open-model-tuning:identitySuffix gives the accounts, roles and pools of this stack other IDs"
_PREFIX = "open-model-tuning:namePrefix gives the resources of this stack other names"
_OTHERWISE = {
    "Bucket": "open-model-tuning:buckets takes a bucket into the stack (mode import) or only uses it (attach); "
    "open-model-tuning:namePrefix gives the stack's own buckets other names",
    "BucketObject": "open-model-tuning:buckets sets another contract bucket",
    "Account": _SUFFIX,
    "IAMCustomRole": _SUFFIX,
    "WorkloadIdentityPool": _SUFFIX,
    "WorkloadIdentityPoolProvider": _SUFFIX,
    "SQuotaPreference": "set open-model-tuning:concurrentTuningJobs to 0: the project already requests this quota",
    "IAMAuditConfig": "set open-model-tuning:dataAccessAudit to false: the project already configures these audit logs",
}
_RUNNER = "open-model-tuning:runnerAccountId gives the runner's account another ID"


def otherwise(token: str, name: str) -> str:
    """Return which setting names a resource differently, or leaves it out."""
    kind = token.rpartition(":")[2]
    return _RUNNER if (kind, name) == ("Account", "runner") else _OTHERWISE.get(kind, _PREFIX)


def taken(found: list[tuple[str, str, str]]) -> TakenError:
    """Return what to raise for resources, each as type, name and the claim of what has its place."""
    problems = [f"{key_of(f'::::{token}::{name}')}: {claim}" for token, name, claim in found]
    return TakenError(problems, [otherwise(token, name) for token, name, _ in found])
