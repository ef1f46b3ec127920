"""The error for names that somebody else's resources have, and how to rename the stack's own resources."""

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
    """Return the setting that renames a resource or omits it."""
    kind = token.rpartition(":")[2]
    return _RUNNER if (kind, name) == ("Account", "runner") else _OTHERWISE.get(kind, _PREFIX)


def taken(found: list[tuple[str, str, str]]) -> TakenError:
    """Return the error for resources, each given as type, name, and a description of the conflicting resource."""
    problems = [f"{key_of(f'::::{token}::{name}')}: {claim}" for token, name, claim in found]
    return TakenError(problems, [otherwise(token, name) for token, name, _ in found])
