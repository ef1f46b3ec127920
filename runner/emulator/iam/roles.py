"""The permissions of predefined roles, as far as the emulator checks them.

Source: Google's list of predefined roles, as of 2026-04. Only permissions that some method here checks, or that
`testIamPermissions` usually gets, are listed. A role that is not in the table grants nothing.
"""

from __future__ import annotations

_OBJECT_READ = frozenset({"storage.objects.get", "storage.objects.list"})
_MULTIPART = frozenset(f"storage.multipartUploads.{verb}" for verb in ("abort", "create", "list", "listParts"))
_FOLDERS = frozenset(
    f"storage.{kind}.{verb}" for kind in ("folders", "managedFolders") for verb in ("create", "delete", "get", "list")
) | {"storage.folders.rename"}
_OBJECT_USER = (
    _OBJECT_READ
    | {f"storage.objects.{verb}" for verb in ("create", "delete", "update", "restore", "move")}
    | _MULTIPART
    | _FOLDERS
)
_OBJECT_ACLS = frozenset({"storage.objects.getIamPolicy", "storage.objects.setIamPolicy"})
_OBJECT_ADMIN = _OBJECT_USER | _OBJECT_ACLS | {"storage.objects.overrideUnlockedRetention"}
_BUCKET_WRITE = frozenset(
    f"storage.buckets.{verb}"
    for verb in ("create", "delete", "get", "list", "update", "getIamPolicy", "setIamPolicy", "enableObjectRetention")
)
_HMAC_KEYS = frozenset(f"storage.hmacKeys.{verb}" for verb in ("create", "delete", "get", "list", "update"))
_STORAGE_ADMIN = _OBJECT_ADMIN | _BUCKET_WRITE | _HMAC_KEYS

_TUNING = frozenset(f"aiplatform.tuningJobs.{verb}" for verb in ("cancel", "create", "get", "list", "delete"))
_AIPLATFORM = _TUNING | {
    f"aiplatform.{kind}.{verb}"
    for kind, verbs in {
        "endpoints": ("create", "delete", "deploy", "explain", "get", "list", "predict", "undeploy", "update"),
        "models": ("create", "delete", "export", "get", "list", "update", "upload"),
        "locations": ("get", "list"),
        "operations": ("list",),
        "metadataStores": ("get", "list"),
        "contexts": ("delete", "get", "list", "queryContextLineageSubgraph"),
        "artifacts": ("delete", "get", "list"),
        "executions": ("delete", "get", "list"),
        "tensorboards": ("delete", "get", "list"),
        "tensorboardExperiments": ("delete", "get", "list"),
        "tensorboardRuns": ("delete", "get", "list"),
        "tensorboardTimeSeries": ("batchRead", "get", "list", "read"),
    }.items()
    for verb in verbs
}
_ACCOUNTS = frozenset(
    f"iam.serviceAccounts.{verb}"
    for verb in ("create", "delete", "disable", "enable", "get", "getIamPolicy", "list", "setIamPolicy", "undelete")
) | {"iam.serviceAccounts.update"}
_TOKENS = frozenset(
    f"iam.serviceAccounts.{verb}"
    for verb in ("getAccessToken", "getOpenIdToken", "implicitDelegation", "signBlob", "signJwt")
)
_SERVICES_READ = frozenset({"serviceusage.services.get", "serviceusage.services.list"})
_SERVICES = _SERVICES_READ | {
    "serviceusage.services.enable",
    "serviceusage.services.disable",
    "serviceusage.services.use",
}
_PROJECT_READ = frozenset({"resourcemanager.projects.get", "resourcemanager.projects.list"})
_PROJECT_POLICY = frozenset({"resourcemanager.projects.getIamPolicy", "resourcemanager.projects.setIamPolicy"})
_MONITORING_READ = frozenset(
    f"monitoring.{kind}.{verb}" for kind in ("alertPolicies", "notificationChannels") for verb in ("get", "list")
)
_MONITORING = _MONITORING_READ | {
    f"monitoring.{kind}.{verb}"
    for kind in ("alertPolicies", "notificationChannels")
    for verb in ("create", "delete", "update")
}


def _all(kind: str, verbs: str) -> frozenset[str]:
    return frozenset(f"{kind}.{verb}" for verb in verbs.split())


_BATCHES = _all("aiplatform.batchPredictionJobs", "cancel create delete get list")
_VERTEX_POLICIES = _all("aiplatform.endpoints", "getIamPolicy setIamPolicy") | _all(
    "aiplatform.models", "getIamPolicy setIamPolicy"
)
_FUNCTIONS = _all("cloudfunctions.functions", "create delete get list update")
_SCHEDULES = _all("cloudscheduler.jobs", "create delete get list run update")
_RUN_POLICIES = _all("run.services", "getIamPolicy setIamPolicy")
_QUOTAS = _all("cloudquotas.quotas", "get update")
_CUSTOM_ROLES = _all("iam.roles", "create delete get list undelete update")
_POOLS = _all("iam.workloadIdentityPools", "create delete get list undelete update") | _all(
    "iam.workloadIdentityPoolProviders", "create delete get list undelete update"
)
_TIME_SERIES = frozenset({"monitoring.timeSeries.list"})
_COMPUTE_READ = frozenset({"compute.projects.get", "compute.regions.get", "compute.regions.list"})
_KMS = (
    _all("cloudkms.keyRings", "create get getIamPolicy list setIamPolicy")
    | _all("cloudkms.cryptoKeys", "create get getIamPolicy list setIamPolicy update")
    | _all("cloudkms.cryptoKeyVersions", "destroy get list")
)
_ACCOUNT_KEYS = _all("iam.serviceAccountKeys", "create delete disable enable get list")
_ADDED = _BATCHES | _FUNCTIONS | _SCHEDULES | _QUOTAS | _TIME_SERIES | _COMPUTE_READ
"""Additional permissions of an editor."""
_KEYS_USE = frozenset({"cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"})

_READING = (".get", ".list", ".read", ".batchRead", ".queryContextLineageSubgraph")

_VIEWER = (
    _PROJECT_READ
    | {
        "resourcemanager.projects.getIamPolicy",
        "storage.buckets.list",
        "iam.serviceAccounts.get",
        "iam.serviceAccounts.list",
    }
    | _SERVICES_READ
    | _MONITORING_READ
    | {name for name in _AIPLATFORM | _ADDED | _CUSTOM_ROLES | _POOLS if name.endswith(_READING)}
    | {"run.services.getIamPolicy"}
)
_EDITOR = (
    _VIEWER
    | _ADDED
    | _AIPLATFORM
    | _MONITORING
    | _SERVICES
    | {"storage.buckets.create", "storage.buckets.delete", "iam.serviceAccounts.create", "iam.serviceAccounts.delete"}
    | {"iam.serviceAccounts.actAs", "iam.serviceAccounts.update", "resourcemanager.projects.update"}
)
_OWNER = (
    _EDITOR
    | _ACCOUNTS
    | _PROJECT_POLICY
    | _CUSTOM_ROLES
    | _POOLS
    | _RUN_POLICIES
    | _VERTEX_POLICIES
    | _KMS
    | _ACCOUNT_KEYS
    | {"resourcemanager.projects.delete"}
)

ROLES: dict[str, frozenset[str]] = {
    "roles/owner": _OWNER,
    "roles/editor": _EDITOR,
    "roles/viewer": _VIEWER,
    "roles/storage.admin": _STORAGE_ADMIN,
    "roles/storage.objectAdmin": _OBJECT_ADMIN,
    "roles/storage.objectUser": _OBJECT_USER,
    "roles/storage.objectViewer": _OBJECT_READ
    | {"storage.folders.get", "storage.folders.list", "storage.managedFolders.get", "storage.managedFolders.list"},
    "roles/storage.objectCreator": frozenset({"storage.objects.create", "storage.folders.create"})
    | (_MULTIPART - {"storage.multipartUploads.list"}),
    "roles/storage.legacyBucketReader": frozenset(
        {"storage.buckets.get", "storage.objects.list", "storage.multipartUploads.list"}
    ),
    "roles/storage.legacyBucketWriter": frozenset(
        {"storage.buckets.get", "storage.objects.list", "storage.objects.create", "storage.objects.delete"}
    )
    | _MULTIPART,
    "roles/storage.legacyBucketOwner": frozenset(
        {
            "storage.buckets.get",
            "storage.buckets.getIamPolicy",
            "storage.buckets.setIamPolicy",
            "storage.buckets.update",
        }
    )
    | {"storage.objects.list", "storage.objects.create", "storage.objects.delete"}
    | _MULTIPART,
    "roles/storage.legacyObjectReader": frozenset({"storage.objects.get"}),
    "roles/storage.legacyObjectOwner": frozenset({"storage.objects.get", "storage.objects.update"}) | _OBJECT_ACLS,
    "roles/storage.bucketViewer": frozenset({"storage.buckets.get", "storage.buckets.list"}),
    "roles/aiplatform.admin": _AIPLATFORM | _BATCHES | _VERTEX_POLICIES | _PROJECT_READ,
    "roles/aiplatform.user": _AIPLATFORM | _BATCHES | _PROJECT_READ,
    "roles/aiplatform.viewer": frozenset(name for name in _AIPLATFORM | _BATCHES if name.endswith(_READING))
    | _PROJECT_READ,
    "roles/cloudfunctions.developer": _FUNCTIONS | _PROJECT_READ,
    "roles/cloudquotas.admin": _QUOTAS | _PROJECT_READ,
    "roles/cloudquotas.viewer": frozenset({"cloudquotas.quotas.get"}) | _PROJECT_READ,
    "roles/cloudscheduler.admin": _SCHEDULES | _PROJECT_READ,
    "roles/run.admin": _RUN_POLICIES | _PROJECT_READ,
    "roles/iam.roleAdmin": _CUSTOM_ROLES | _PROJECT_READ | {"resourcemanager.projects.getIamPolicy"},
    "roles/iam.workloadIdentityPoolAdmin": _POOLS | _PROJECT_READ,
    "roles/cloudkms.admin": _KMS,
    "roles/compute.viewer": _COMPUTE_READ | _PROJECT_READ,
    # The agents' own roles grant access to the tuning service, not to the customer's buckets, which need separate
    # grants.
    "roles/aiplatform.serviceAgent": _AIPLATFORM,
    "roles/aiplatform.tuningServiceAgent": _TUNING
    | {
        "aiplatform.models.get",
        "aiplatform.models.upload",
        "aiplatform.endpoints.create",
        "aiplatform.endpoints.deploy",
    },
    "roles/iam.serviceAccountAdmin": _ACCOUNTS | _PROJECT_READ,
    "roles/iam.serviceAccountUser": frozenset(
        {"iam.serviceAccounts.actAs", "iam.serviceAccounts.get", "iam.serviceAccounts.list"}
    )
    | _PROJECT_READ,
    "roles/iam.serviceAccountTokenCreator": _TOKENS
    | {"iam.serviceAccounts.get", "iam.serviceAccounts.list"}
    | _PROJECT_READ,
    "roles/iam.serviceAccountKeyAdmin": _ACCOUNT_KEYS,
    "roles/iam.workloadIdentityUser": frozenset(
        {"iam.serviceAccounts.get", "iam.serviceAccounts.getAccessToken", "iam.serviceAccounts.getOpenIdToken"}
    )
    | {"iam.serviceAccounts.list"},
    "roles/serviceusage.serviceUsageAdmin": _SERVICES,
    "roles/serviceusage.serviceUsageConsumer": _SERVICES_READ | {"serviceusage.services.use"},
    "roles/serviceusage.serviceUsageViewer": _SERVICES_READ,
    "roles/resourcemanager.projectIamAdmin": _PROJECT_READ | _PROJECT_POLICY,
    "roles/monitoring.admin": _MONITORING | _TIME_SERIES,
    "roles/monitoring.editor": _MONITORING | _TIME_SERIES,
    "roles/monitoring.viewer": _MONITORING_READ | _TIME_SERIES,
    "roles/cloudkms.cryptoKeyEncrypterDecrypter": _KEYS_USE,
    "roles/cloudkms.cryptoKeyEncrypter": frozenset({"cloudkms.cryptoKeyVersions.useToEncrypt"}),
    "roles/cloudkms.cryptoKeyDecrypter": frozenset({"cloudkms.cryptoKeyVersions.useToDecrypt"}),
}
