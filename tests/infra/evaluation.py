"""Configurations that the tests evaluate."""

from __future__ import annotations

import json

from infra.addresses import emulator_endpoints
from infra.evaluation import NUMBER, Evaluation, Registered, evaluate
from runner.catalog import load_catalog

__all__ = [
    "ELSEWHERE",
    "EVERYWHERE",
    "FULL",
    "LOCAL",
    "MINIMAL",
    "NUMBER",
    "PRODUCTION",
    "PROJECT",
    "Evaluation",
    "Registered",
    "evaluate",
]

PROJECT = "demo-project"
_REGIONS = [place.id for place in load_catalog().locations if place.id != "global"]
MINIMAL = {"gcp:project": PROJECT}
FULL = {
    "gcp:project": PROJECT,
    "gcp:region": "europe-west4",
    "open-model-tuning:labels": '{"team": "ml"}',
    "open-model-tuning:kmsKeys": '["projects/keys/locations/europe-west4/keyRings/r/cryptoKeys/k"]',
    "open-model-tuning:protect": "true",
    "open-model-tuning:githubRepository": "owner/repository",
    "open-model-tuning:githubRepositoryId": "1234",
    "open-model-tuning:githubOwnerId": "56",
    "open-model-tuning:gitlabProject": "group/project",
    "open-model-tuning:gitlabProjectId": "789",
    "open-model-tuning:stateBucket": "demo-project-state",
    "open-model-tuning:stateKey": "projects/keys/locations/europe-west4/keyRings/r/cryptoKeys/state",
    "open-model-tuning:runnerImpersonators": '["user:ada@example.com", "group:ml@example.com"]',
    "open-model-tuning:notificationEmails": '["ml@example.com"]',
    "open-model-tuning:budgetAmount": "100",
    "open-model-tuning:billingAccount": "012345-6789AB-CDEF01",
    "open-model-tuning:dataAccessAudit": "true",
    "open-model-tuning:concurrentTuningJobs": "3",
    "open-model-tuning:perimeter": "accessPolicies/1/servicePerimeters/data",
}
PRODUCTION = {
    **FULL,
    "gcp:region": "us-central1",
    "open-model-tuning:environment": "prod",
    "open-model-tuning:extraRegions": '["europe-west4"]',
    "open-model-tuning:buckets": (
        '{"datasets": {"mode": "attach", "name": "company-datasets"},'
        ' "europe-west4/outputs": {"mode": "import", "name": "old-outputs"}}'
    ),
    "open-model-tuning:extraDataBuckets": '["company-images"]',
}
"""Everything at once, in two regions."""
EVERYWHERE = {
    **{key: value for key, value in PRODUCTION.items() if not key.endswith(("buckets", "kmsKeys"))},
    "open-model-tuning:extraRegions": json.dumps(_REGIONS[1:]),
    "open-model-tuning:kmsKeys": json.dumps(
        [f"projects/keys/locations/{region}/keyRings/r/cryptoKeys/k" for region in _REGIONS]
    ),
    "open-model-tuning:privateEndpoint": "true",
    "open-model-tuning:perimeterDryRun": "false",
}
"""All parts in every region that the service has, each with a key of its own."""

LOCAL = {
    **{key: value for key, value in FULL.items() if not key.endswith(("gitlabProject", "gitlabProjectId"))},
    **{f"gcp:{key}": value for key, value in emulator_endpoints("http://127.0.0.1:8085").items()},
}
"""What an emulator can be given."""

ELSEWHERE = {key: value for key, value in LOCAL.items() if "functions" not in key}
"""A server that stands in for Google's APIs without functions."""
