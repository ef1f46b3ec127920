"""What a refreshed preview reads of each resource type, and the permissions for this.

The account for previews runs unapproved code. It has these permissions and no predefined role: a role that reads all of
a service would also read what no preview compares, and it is easy to forget the role for a new service.
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
    # Only in the contract bucket, through a role on the bucket.
    "storage/bucketObject:BucketObject": (),
    "vertex/aiEndpoint:AiEndpoint": ("aiplatform.endpoints.get",),
}
"""Permissions on the project, by type. () means that nothing is read, or nothing in the project: a budget belongs to
the billing account, and a perimeter to the organization."""

ALWAYS = ("resourcemanager.projects.get", "serviceusage.services.use")
"""Permissions for the project's number, and for requests that the project pays for."""


def permissions(types: Iterable[str] = tuple(READS)) -> list[str]:
    """Return the project permissions that a preview of these types needs, sorted; types are ends of tokens.

    Raises:
        KeyError: a type is missing from the table.
    """
    return sorted({*ALWAYS, *(permission for type_ in types for permission in READS[type_])})


def table() -> str:
    """Return the table as Markdown."""
    rows = [f"| `{type_.rsplit(':', 1)[-1]}` | {_listed(needed)} |" for type_, needed in sorted(READS.items())]
    return "\n".join(["| resource | read with |", "|---|---|", *rows])


def _listed(needed: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in needed) or "nothing of the project"
