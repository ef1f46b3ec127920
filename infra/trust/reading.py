"""What a refreshed preview reads of each type of resource, and which permission that needs.

The account of previews runs code that nobody has approved. It has these permissions and no predefined role: a role that
reads all of a service would also read what no preview compares, and one that a new service needs is easily forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

READS: dict[str, tuple[str, ...]] = {
    "accesscontextmanager/servicePerimeterDryRunResource:ServicePerimeterDryRunResource": (),
    "accesscontextmanager/servicePerimeterResource:ServicePerimeterResource": (),
    "billing/budget:Budget": (),
    "cloudfunctionsv2/function:Function": ("cloudfunctions.functions.get",),
    "cloudquota/sQuotaPreference:SQuotaPreference": ("cloudquotas.quotas.get",),
    "cloudrunv2/serviceIamMember:ServiceIamMember": ("run.services.getIamPolicy",),
    "cloudscheduler/job:Job": ("cloudscheduler.jobs.get",),
    "iam/workloadIdentityPool:WorkloadIdentityPool": ("iam.workloadIdentityPools.get",),
    "iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": ("iam.workloadIdentityPoolProviders.get",),
    "iam/workloadIdentityServiceAgent:WorkloadIdentityServiceAgent": (),
    "kms/cryptoKeyIAMMember:CryptoKeyIAMMember": ("cloudkms.cryptoKeys.getIamPolicy",),
    "monitoring/alertPolicy:AlertPolicy": ("monitoring.alertPolicies.get",),
    "monitoring/notificationChannel:NotificationChannel": ("monitoring.notificationChannels.get",),
    "projects/iAMAuditConfig:IAMAuditConfig": ("resourcemanager.projects.getIamPolicy",),
    "projects/iAMCustomRole:IAMCustomRole": ("iam.roles.get",),
    "projects/iAMMember:IAMMember": ("resourcemanager.projects.getIamPolicy",),
    "projects/service:Service": ("serviceusage.services.get", "serviceusage.services.list"),
    "projects/serviceIdentity:ServiceIdentity": (),
    "serviceaccount/account:Account": ("iam.serviceAccounts.get",),
    "serviceaccount/iAMMember:IAMMember": ("iam.serviceAccounts.getIamPolicy",),
    "storage/bucket:Bucket": ("storage.buckets.get",),
    "storage/bucketIAMMember:BucketIAMMember": ("storage.buckets.getIamPolicy",),
    # In the contract bucket only, where a role of the bucket gives it.
    "storage/bucketObject:BucketObject": (),
    "vertex/aiEndpoint:AiEndpoint": ("aiplatform.endpoints.get",),
}
"""Permissions on the project, by type. () is a type of which nothing is read, or nothing of the project: a budget is
the billing account's, and a perimeter the organisation's."""

ALWAYS = ("resourcemanager.projects.get", "serviceusage.services.use")
"""The project's number, and the right to let it pay for asking."""


def permissions(types: Iterable[str] = tuple(READS)) -> list[str]:
    """Return what a preview of these types needs on the project, sorted; types are ends of tokens.

    Raises:
        KeyError: the table lacks a type.
    """
    return sorted({*ALWAYS, *(permission for type_ in types for permission in READS[type_])})


def table() -> str:
    """Return the table as Markdown."""
    rows = [f"| `{type_.rsplit(':', 1)[-1]}` | {_listed(needed)} |" for type_, needed in sorted(READS.items())]
    return "\n".join(["| resource | read with |", "|---|---|", *rows])


def _listed(needed: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in needed) or "nothing of the project"
