"""The rules. Each checks one resource, or all resources of a stack, and says what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.policy.resources import PolicyResource
from runner.catalog import load_catalog

Level = Literal["mandatory", "advisory"]
ResourceCheck = Callable[[PolicyResource], Iterator[str]]
StackCheck = Callable[[list[PolicyResource]], Iterator[tuple[str, str]]]

PRIMITIVE_ROLES = frozenset({"roles/owner", "roles/editor", "roles/viewer"})
PUBLIC_MEMBERS = frozenset({"allUsers", "allAuthenticatedUsers"})
SCRATCH_PREFIXES = frozenset({"tmp/", "preview/"})
AGENT_DOMAINS = ("gcp-sa-aiplatform", "gcp-sa-vertex-moss-ft")
_BOUND = re.compile(r"/attribute\.use/[0-9]+:[^:]+@refs/[^:]+:[a-z_]+:[^:]+$")
_AUTHORITATIVE = re.compile(r"IA?[Mm](Binding|Policy)$|(ACL|AccessControl)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. Exactly one of `resource` and `stack` is set."""

    name: str
    description: str
    level: Level = "mandatory"
    resource: ResourceCheck | None = None
    stack: StackCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken rule, with the resource and the details."""

    rule: str
    level: Level
    resource: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        return {"rule": self.rule, "level": self.level, "resource": self.resource, "message": self.message}


def violations(resources: list[PolicyResource]) -> list[Violation]:
    """Return all violations, those of mandatory rules first."""
    found = []
    for rule in RULES:
        if rule.resource is not None:
            broken = [(item.name, text) for item in resources for text in rule.resource(item)]
        else:
            broken = list(rule.stack(resources)) if rule.stack is not None else []
        found += [Violation(rule=rule.name, level=rule.level, resource=name, message=text) for name, text in broken]
    return sorted(found, key=lambda item: item.level != "mandatory")


def _is_bucket(resource: PolicyResource) -> bool:
    return resource.is_a("storage/bucket:Bucket")


def _public_access_prevention(resource: PolicyResource) -> Iterator[str]:
    if _is_bucket(resource) and resource.props.get("publicAccessPrevention") != "enforced":
        yield "publicAccessPrevention is not `enforced`"


def _uniform_access(resource: PolicyResource) -> Iterator[str]:
    if _is_bucket(resource) and resource.props.get("uniformBucketLevelAccess") is not True:
        yield "uniformBucketLevelAccess is off, so object ACLs can grant more than the bucket's policy"


def _soft_delete(resource: PolicyResource) -> Iterator[str]:
    if _is_bucket(resource) and "retentionDurationSeconds" not in (resource.props.get("softDeletePolicy") or {}):
        yield "softDeletePolicy is not set, so the bucket would keep its previous setting"


def _lifecycle(resource: PolicyResource) -> Iterator[str]:
    if not _is_bucket(resource):
        return
    kind = (resource.props.get("labels") or {}).get("content", "")
    for rule in resource.props.get("lifecycleRules") or []:
        condition = {key: value for key, value in (rule.get("condition") or {}).items() if value not in (None, 0, [])}
        if (rule.get("action") or {}).get("type") != "Delete":
            continue
        old_versions = condition.get("withState") == "ARCHIVED" and condition.get("daysSinceNoncurrentTime")
        prefixes = set(condition.get("matchesPrefixes") or [])
        scratch = bool(prefixes) and prefixes <= SCRATCH_PREFIXES and condition.get("age") and kind != "outputs"
        if not old_versions and not scratch:
            yield f"a Delete rule can delete live objects, such as `final/` checkpoints: {json.dumps(plain(rule))}"


def _location(resource: PolicyResource) -> Iterator[str]:
    offered = {place.id for place in load_catalog().locations if place.id != "global"}
    if (_is_bucket(resource) or resource.is_a(":AiEndpoint")) and "location" in resource.props:
        location = str(resource.props["location"]).lower()
        if location not in offered:
            yield f"is in {location}, which does not tune open models"


def _authoritative(resource: PolicyResource) -> Iterator[str]:
    if _AUTHORITATIVE.search(resource.type.rsplit(":", 1)[-1]):
        yield "replaces all other grants; use a resource that adds single members"


def _members(resource: PolicyResource) -> list[str]:
    found = [resource.props.get("member"), *(resource.props.get("members") or [])]
    return [str(member) for member in found if member]


def _primitive_role(resource: PolicyResource) -> Iterator[str]:
    if resource.props.get("role") in PRIMITIVE_ROLES:
        yield f"grants {resource.props['role']}, which allows much more than tuning needs"


def _public_member(resource: PolicyResource) -> Iterator[str]:
    for member in _members(resource):
        if member in PUBLIC_MEMBERS:
            yield f"grants {resource.props.get('role')} to {member}"


def _account_key(resource: PolicyResource) -> Iterator[str]:
    if resource.is_a("serviceaccount/key:Key", "storage/hmacKey:HmacKey"):
        yield "creates a key, which can be copied; use impersonation or workload identity"


def _project_storage(resource: PolicyResource) -> Iterator[str]:
    if not resource.is_a("projects/iAMMember:IAMMember") or not str(resource.props.get("role")).startswith(
        "roles/storage."
    ):
        return
    for member in _members(resource):
        if any(domain in member for domain in AGENT_DOMAINS) or re.match(
            r"serviceAccount:tuning-(runner|idle)", member
        ):
            yield f"grants {member} access to every bucket of the project; grant the role on single buckets"


def _pool_condition(resource: PolicyResource) -> Iterator[str]:
    if resource.is_a(":WorkloadIdentityPoolProvider") and not re.search(
        r"assertion\.(repository_id|project_id|repository_owner_id)\s*==\s*'[0-9]+'",
        str(resource.props.get("attributeCondition") or ""),
    ):
        yield "trusts every repository: attributeCondition must compare the number of a repository or owner"


def _pool_member(resource: PolicyResource) -> Iterator[str]:
    for member in _members(resource):
        if member.startswith("principalSet://") and ("/attribute." not in member or member.endswith("/*")):
            yield f"grants access to a whole identity pool: {member}"
        elif resource.props.get("role") == "roles/iam.workloadIdentityUser" and not _BOUND.search(member):
            yield f"does not name file, ref, event and environment together: {member}"


def _labels(resource: PolicyResource) -> Iterator[str]:
    if _is_bucket(resource) and not (resource.props.get("labels") or {}).get("content"):
        yield "has no label `content`, which separates costs by use"


def _production(resources: list[PolicyResource]) -> bool:
    for item in resources:
        if item.is_a(":BucketObject") and item.props.get("name") == "environment.json":
            try:
                document = json.loads(item.props.get("content") or "{}")
            except (TypeError, ValueError):  # not known before the first deployment
                continue
            return bool(document.get("environment") == "prod")
    return any((item.props.get("labels") or {}).get("environment") == "prod" for item in resources)


def _protection(resources: list[PolicyResource]) -> Iterator[tuple[str, str]]:
    if not _production(resources):
        return
    for item in resources:
        if _is_bucket(item) and not item.protect:
            yield item.name, "is a production bucket and is not protected"
        if _is_bucket(item) and item.props.get("forceDestroy"):
            yield item.name, "is a production bucket, and forceDestroy would delete its objects with it"


def _agents(resources: list[PolicyResource]) -> Iterator[tuple[str, str]]:
    granted: set[tuple[str, str]] = set()
    for item in resources:
        if item.is_a(":BucketIAMMember") and item.props.get("role") == "roles/storage.objectUser":
            granted |= {(str(item.props.get("bucket")), member) for member in _members(item)}
    for item in resources:
        if not _is_bucket(item) or (item.props.get("labels") or {}).get("content") == "contract":
            continue
        for domain in AGENT_DOMAINS:
            if not any(bucket == item.props.get("name") and f"@{domain}." in member for bucket, member in granted):
                yield item.name, f"the service agent {domain} has no access to its objects, so jobs would fail"


def _budget(resources: list[PolicyResource]) -> Iterator[tuple[str, str]]:
    if _production(resources) and not any(item.is_a("billing/budget:Budget") for item in resources):
        yield "stack", "has no budget, so nobody gets emails about its costs"


def _perimeter(resources: list[PolicyResource]) -> Iterator[tuple[str, str]]:
    if not any(item.is_a(":ServicePerimeterResource") for item in resources):
        return
    for item in resources:
        if item.is_a(":AiEndpoint") and not item.props.get("privateServiceConnectConfig"):
            yield (
                item.name,
                "is not private, so predictions from outside the perimeter fail; set open-model-tuning:privateEndpoint",
            )


def _rule(name: str, description: str, check: ResourceCheck, level: Level = "mandatory") -> Rule:
    return Rule(name=name, description=description, level=level, resource=check)


def _stack_rule(name: str, description: str, check: StackCheck, level: Level = "mandatory") -> Rule:
    return Rule(name=name, description=description, level=level, stack=check)


RULES: tuple[Rule, ...] = (
    _rule("bucket-public-access-prevention", "Buckets prevent public access.", _public_access_prevention),
    _rule("bucket-uniform-access", "Buckets use uniform bucket-level access.", _uniform_access),
    _rule("bucket-soft-delete-explicit", "Every bucket sets a soft delete period.", _soft_delete),
    _rule("bucket-no-destructive-lifecycle", "No lifecycle rule deletes live objects of a job.", _lifecycle),
    _rule("location-allowed", "Buckets and endpoints are in regions that tune open models.", _location),
    _rule("no-authoritative-iam", "Grants add single members and remove none.", _authoritative),
    _rule("no-primitive-roles", "No grant has the role owner, editor or viewer.", _primitive_role),
    _rule("no-public-members", "No grant is for `allUsers` or `allAuthenticatedUsers`.", _public_member),
    _rule("no-service-account-keys", "The stack creates no service account keys.", _account_key),
    _rule(
        "no-project-wide-storage",
        "Runner, guard and agents get access to single buckets, not to all.",
        _project_storage,
    ),
    _rule(
        "workload-identity-condition", "The provider of a pool trusts one repository, by its number.", _pool_condition
    ),
    _rule("workload-identity-member", "Grants to a pool name the file, ref, event and environment.", _pool_member),
    _rule("labels-required", "Buckets have the label `content`.", _labels),
    _stack_rule("production-protected", "Production buckets are protected, without `forceDestroy`.", _protection),
    _stack_rule("agents-granted-everywhere", "Both service agents can use every bucket that jobs use.", _agents),
    _stack_rule("budget-present", "Production has a budget.", _budget, "advisory"),
    _stack_rule("endpoint-inside-perimeter", "Endpoints inside a perimeter are private.", _perimeter, "advisory"),
)


def plain(value: Any) -> Any:
    """Return a value that JSON can represent: the engine passes mappings and sequences of its own types."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value
