"""`iam.googleapis.com`, `iamcredentials.googleapis.com` and the token endpoint."""

from __future__ import annotations

from runner.emulator.iam import credentials, custom_roles, service_accounts, workload_identity
from runner.emulator.resources import methods
from runner.emulator.routing import Method

_ACCOUNTS = "/projects/{project}/serviceAccounts"
_ACCOUNT = _ACCOUNTS + "/{account}"
_ID = "iam.projects.serviceAccounts"
_ROLES = "/projects/{project}/roles"
_ROLE = _ROLES + "/{role}"
_ROLE_ID = "iam.projects.roles"
_POOLS = "/projects/{project}/locations/global/workloadIdentityPools"
_POOL = _POOLS + "/{pool}"
_PROVIDER = _POOL + "/providers/{provider}"
_POOL_ID = "iam.projects.locations.workloadIdentityPools"

METHODS: list[Method] = [
    *methods(
        ["/v1"],
        [
            (f"{_ID}.create", "POST", _ACCOUNTS, service_accounts.create),
            (f"{_ID}.list", "GET", _ACCOUNTS, service_accounts.list_accounts),
            (f"{_ID}.get", "GET", _ACCOUNT, service_accounts.get),
            (f"{_ID}.patch", "PATCH", _ACCOUNT, service_accounts.patch),
            (f"{_ID}.update", "PUT", _ACCOUNT, service_accounts.update),
            (f"{_ID}.delete", "DELETE", _ACCOUNT, service_accounts.delete),
            (f"{_ID}.undelete", "POST", f"{_ACCOUNT}:undelete", service_accounts.undelete),
            (f"{_ID}.enable", "POST", f"{_ACCOUNT}:enable", service_accounts.enable),
            (f"{_ID}.disable", "POST", f"{_ACCOUNT}:disable", service_accounts.disable),
            (f"{_ID}.getIamPolicy", "POST", f"{_ACCOUNT}:getIamPolicy", service_accounts.POLICY.get),
            (f"{_ID}.setIamPolicy", "POST", f"{_ACCOUNT}:setIamPolicy", service_accounts.POLICY.set),
            (f"{_ID}.testIamPermissions", "POST", f"{_ACCOUNT}:testIamPermissions", service_accounts.POLICY.test),
            (f"{_ID}.keys.create", "POST", f"{_ACCOUNT}/keys", credentials.create_key),
            (f"{_ID}.keys.list", "GET", f"{_ACCOUNT}/keys", credentials.list_keys),
            (f"{_ID}.keys.get", "GET", f"{_ACCOUNT}/keys/{{key}}", credentials.get_key),
            (f"{_ID}.keys.delete", "DELETE", f"{_ACCOUNT}/keys/{{key}}", credentials.delete_key),
            (
                "iamcredentials.projects.serviceAccounts.generateAccessToken",
                "POST",
                f"{_ACCOUNT}:generateAccessToken",
                credentials.generate_access_token,
            ),
            (
                "iam.permissions.queryTestablePermissions",
                "POST",
                "/permissions:queryTestablePermissions",
                custom_roles.query_testable,
            ),
            (f"{_ROLE_ID}.create", "POST", _ROLES, custom_roles.create),
            (f"{_ROLE_ID}.list", "GET", _ROLES, custom_roles.list_roles),
            (f"{_ROLE_ID}.undelete", "POST", f"{_ROLE}:undelete", custom_roles.undelete),
            (f"{_ROLE_ID}.get", "GET", _ROLE, custom_roles.get),
            (f"{_ROLE_ID}.patch", "PATCH", _ROLE, custom_roles.patch),
            (f"{_ROLE_ID}.delete", "DELETE", _ROLE, custom_roles.delete),
            (f"{_POOL_ID}.create", "POST", _POOLS, workload_identity.create_pool),
            (f"{_POOL_ID}.list", "GET", _POOLS, workload_identity.list_pools),
            (f"{_POOL_ID}.get", "GET", _POOL, workload_identity.get),
            (f"{_POOL_ID}.patch", "PATCH", _POOL, workload_identity.patch),
            (f"{_POOL_ID}.delete", "DELETE", _POOL, workload_identity.delete),
            (f"{_POOL_ID}.undelete", "POST", f"{_POOL}:undelete", workload_identity.undelete),
            (
                f"{_POOL_ID}.listAttestationRules",
                "GET",
                f"{_POOL}:listAttestationRules",
                workload_identity.list_attestation_rules,
            ),
            (f"{_POOL_ID}.operations.get", "GET", f"{_POOL}/operations/{{operation}}", workload_identity.get_operation),
            (f"{_POOL_ID}.providers.create", "POST", f"{_POOL}/providers", workload_identity.create_provider),
            (f"{_POOL_ID}.providers.list", "GET", f"{_POOL}/providers", workload_identity.list_providers),
            (f"{_POOL_ID}.providers.get", "GET", _PROVIDER, workload_identity.get),
            (f"{_POOL_ID}.providers.patch", "PATCH", _PROVIDER, workload_identity.patch),
            (f"{_POOL_ID}.providers.delete", "DELETE", _PROVIDER, workload_identity.delete),
            (f"{_POOL_ID}.providers.undelete", "POST", f"{_PROVIDER}:undelete", workload_identity.undelete),
            (
                f"{_POOL_ID}.providers.operations.get",
                "GET",
                f"{_PROVIDER}/operations/{{operation}}",
                workload_identity.get_operation,
            ),
        ],
    ),
    Method("oauth2.token", "POST", "/token", credentials.token),
]
