"""Budgets, quotas, keys, perimeters, service agents, Compute: each under its own prefix, or without a prefix."""

from __future__ import annotations

from runner.emulator.control import budgets, compute, keys, perimeters, quota_infos, quotas, service_agents
from runner.emulator.resources import methods
from runner.emulator.routing import Method

_BUDGETS = "/billingAccounts/{account}/budgets"
_QUOTAS = "/projects/{project}/locations/global/quotaPreferences"
_INFOS = "/projects/{project}/locations/global/services/{service}/quotaInfos"
_RINGS = "/projects/{project}/locations/{location}/keyRings"
_RING = _RINGS + "/{ring}"
_KEYS = _RING + "/cryptoKeys"
_KEY = _KEYS + "/{key}"
_VERSIONS = _KEY + "/cryptoKeyVersions"
_RING_ID = "cloudkms.projects.locations.keyRings"
_KEY_ID = f"{_RING_ID}.cryptoKeys"
_POLICY = "/accessPolicies/{policy}"
_PERIMETERS = _POLICY + "/servicePerimeters"
_PERIMETER = _PERIMETERS + "/{perimeter}"
_POLICY_ID = "accesscontextmanager.accessPolicies"
_PERIMETER_ID = f"{_POLICY_ID}.servicePerimeters"
_PRODUCER = "/projects/{project}/locations/global/serviceProducers/{service}"
_AGENT_ID = "workloadidentity.projects.locations.serviceProducers.generateServiceAgents"

METHODS: list[Method] = [
    *methods(
        ["/v1", "/budgets/v1"],
        [
            ("billingbudgets.billingAccounts.budgets.create", "POST", _BUDGETS, budgets.create),
            ("billingbudgets.billingAccounts.budgets.list", "GET", _BUDGETS, budgets.list_budgets),
            ("billingbudgets.billingAccounts.budgets.get", "GET", f"{_BUDGETS}/{{id}}", budgets.get),
            ("billingbudgets.billingAccounts.budgets.patch", "PATCH", f"{_BUDGETS}/{{id}}", budgets.patch),
            ("billingbudgets.billingAccounts.budgets.delete", "DELETE", f"{_BUDGETS}/{{id}}", budgets.delete),
        ],
    ),
    *methods(
        ["/v1", "/quotas/v1"],
        [
            ("cloudquotas.projects.locations.quotaPreferences.create", "POST", _QUOTAS, quotas.create),
            ("cloudquotas.projects.locations.quotaPreferences.list", "GET", _QUOTAS, quotas.list_preferences),
            ("cloudquotas.projects.locations.quotaPreferences.get", "GET", f"{_QUOTAS}/{{id}}", quotas.get),
            ("cloudquotas.projects.locations.quotaPreferences.patch", "PATCH", f"{_QUOTAS}/{{id}}", quotas.patch),
            ("cloudquotas.projects.locations.services.quotaInfos.list", "GET", _INFOS, quota_infos.list_infos),
            ("cloudquotas.projects.locations.services.quotaInfos.get", "GET", f"{_INFOS}/{{id}}", quota_infos.get),
        ],
    ),
    *methods(
        ["/v1", "/kms/v1"],
        [
            (f"{_RING_ID}.create", "POST", _RINGS, keys.create_ring),
            (f"{_RING_ID}.list", "GET", _RINGS, keys.list_rings),
            (f"{_RING_ID}.get", "GET", _RING, keys.get),
            (f"{_RING_ID}.getIamPolicy", "GET", f"{_RING}:getIamPolicy", keys.POLICY.get),
            (f"{_RING_ID}.setIamPolicy", "POST", f"{_RING}:setIamPolicy", keys.POLICY.set),
            (f"{_RING_ID}.testIamPermissions", "POST", f"{_RING}:testIamPermissions", keys.POLICY.test),
            (f"{_KEY_ID}.create", "POST", _KEYS, keys.create_key),
            (f"{_KEY_ID}.list", "GET", _KEYS, keys.list_keys),
            (f"{_KEY_ID}.get", "GET", _KEY, keys.get),
            (f"{_KEY_ID}.patch", "PATCH", _KEY, keys.patch_key),
            (f"{_KEY_ID}.getIamPolicy", "GET", f"{_KEY}:getIamPolicy", keys.POLICY.get),
            (f"{_KEY_ID}.setIamPolicy", "POST", f"{_KEY}:setIamPolicy", keys.POLICY.set),
            (f"{_KEY_ID}.testIamPermissions", "POST", f"{_KEY}:testIamPermissions", keys.POLICY.test),
            (f"{_KEY_ID}.cryptoKeyVersions.list", "GET", _VERSIONS, keys.list_versions),
            (f"{_KEY_ID}.cryptoKeyVersions.get", "GET", f"{_VERSIONS}/{{version}}", keys.get),
            (f"{_KEY_ID}.cryptoKeyVersions.destroy", "POST", f"{_VERSIONS}/{{version}}:destroy", keys.destroy_version),
        ],
    ),
    *methods(
        ["/v1", "/accesscontextmanager/v1"],
        [
            (f"{_POLICY_ID}.create", "POST", "/accessPolicies", perimeters.create_policy),
            (f"{_POLICY_ID}.list", "GET", "/accessPolicies", perimeters.list_policies),
            (f"{_POLICY_ID}.get", "GET", _POLICY, perimeters.get_policy),
            (f"{_POLICY_ID}.delete", "DELETE", _POLICY, perimeters.delete_policy),
            (f"{_PERIMETER_ID}.create", "POST", _PERIMETERS, perimeters.create),
            (f"{_PERIMETER_ID}.list", "GET", _PERIMETERS, perimeters.list_perimeters),
            (f"{_PERIMETER_ID}.get", "GET", _PERIMETER, perimeters.get),
            (f"{_PERIMETER_ID}.patch", "PATCH", _PERIMETER, perimeters.patch),
            (f"{_PERIMETER_ID}.delete", "DELETE", _PERIMETER, perimeters.delete),
        ],
    ),
    Method(
        "accesscontextmanager.operations.get",
        "GET",
        # Only with its own prefix, because the path without a prefix belongs to Service Usage's operations.
        "/accesscontextmanager/v1/operations/{operation:path}",
        perimeters.get_operation,
    ),
    *methods(
        ["/v1", "/workloadidentity/v1"],
        [(_AGENT_ID, "POST", f"{_PRODUCER}:generateServiceAgents", service_agents.generate)],
    ),
    Method(
        "workloadidentity.projects.locations.operations.get",
        "GET",
        # Only with its own prefix, because the path without a prefix belongs to Vertex AI's operations.
        "/workloadidentity/v1/projects/{project}/locations/global/operations/{operation}",
        service_agents.get_operation,
    ),
    *methods(
        ["/compute/v1"],
        [
            ("compute.projects.get", "GET", "/projects/{project}", compute.get_project),
            ("compute.regions.list", "GET", "/projects/{project}/regions", compute.list_regions),
            ("compute.regions.get", "GET", "/projects/{project}/regions/{region}", compute.get_region),
        ],
    ),
]
