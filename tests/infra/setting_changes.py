"""A stack with every part, and another value for each of its settings."""

from __future__ import annotations

import json

REGION = "us-central1"
BASE = {
    "labels": '{"team": "ml"}',
    "extraRegions": '["europe-west4"]',
    "githubRepository": "owner/repository",
    "githubRepositoryId": "1234",
    "githubOwnerId": "56",
    "gitlabProject": "group/project",
    "gitlabProjectId": "789",
    "runnerImpersonators": '["user:ada@example.com", "group:ml@example.com"]',
    "notificationEmails": '["ada@example.com", "bob@example.com"]',
    "budgetAmount": "100",
    "billingAccount": "012345-6789AB-CDEF01",
    "dataAccessAudit": "true",
    "concurrentTuningJobs": "3",
    "idleGuard": "true",
}
"""Nothing is protected, so that destroying it leaves nothing."""

CHANGES: dict[str, dict[str, str]] = {
    "environment": {"environment": "dev"},
    "namePrefix": {"namePrefix": "renamed"},
    "labels": {"labels": '{"team": "other", "cost": "7"}'},
    "extraRegions": {"extraRegions": '["us-west1"]'},
    "buckets": {"buckets": json.dumps({"images": {"name": "PROJECT-pictures"}})},
    "extraDataBuckets": {"extraDataBuckets": '["PROJECT-elsewhere"]'},
    "noncurrentVersionDays": {"noncurrentVersionDays": "0"},
    "softDeleteDays": {"softDeleteDays": "0"},
    "scratchDays": {"scratchDays": "3"},
    "kmsKeys": {"kmsKeys": json.dumps(["projects/keys/locations/us-central1/keyRings/r/cryptoKeys/k"])},
    "protect": {"protect": "true", "forceDestroy": "false"},
    "forceDestroy": {"forceDestroy": "false"},
    "serviceAgents": {"serviceAgents": "assume"},
    "identitySuffix": {"identitySuffix": "b"},
    "runnerAccountId": {"runnerAccountId": "other-runner"},
    "runnerImpersonators": {"runnerImpersonators": '["user:cy@example.com", "group:ml@example.com"]'},
    "githubRepository": {"githubRepository": "owner/other"},
    "githubRepositoryId": {"githubRepositoryId": "4321"},
    "githubOwnerId": {"githubOwnerId": "65"},
    "githubPoolId": {"githubPoolId": "other-github"},
    "gitlabProject": {"gitlabProject": "group/other"},
    "gitlabProjectId": {"gitlabProjectId": "987"},
    "gitlabIssuer": {"gitlabIssuer": "https://gitlab.example.org"},
    "gitlabPoolId": {"gitlabPoolId": "other-gitlab"},
    "deployEnvironment": {"deployEnvironment": "live"},
    "stateBucket": {"stateBucket": "PROJECT-elsewhere"},
    "stateKey": {"stateKey": "projects/keys/locations/us-central1/keyRings/r/cryptoKeys/k"},
    "endpoint": {"endpoint": "false"},
    "dedicatedEndpoint": {"dedicatedEndpoint": "true"},
    "privateEndpoint": {"privateEndpoint": "true"},
    "budgetAmount": {"budgetAmount": "200"},
    "budgetCurrency": {"budgetCurrency": "EUR"},
    "billingAccount": {"billingAccount": "AAAAAA-BBBBBB-CCCCCC"},
    "notificationEmails": {"notificationEmails": '["cy@example.com", "bob@example.com"]'},
    "servingAlertHours": {"servingAlertHours": "5"},
    "idleAlertHours": {"idleAlertHours": "5"},
    "waitingAlertHours": {"waitingAlertHours": "5"},
    "idleGuard": {"idleGuard": "false"},
    "idleGuardMinutes": {"idleGuardMinutes": "30"},
    "dataAccessAudit": {"dataAccessAudit": "false"},
    "concurrentTuningJobs": {"concurrentTuningJobs": "5"},
    "perimeter": {"perimeter": "PERIMETER"},
    "perimeterDryRun": {"perimeter": "PERIMETER", "perimeterDryRun": "false"},
}
"""What to change of `BASE`, by setting. PROJECT stands for the project, PERIMETER for a perimeter that is there.

`emulator` is where the stack is: with another there is another stack."""
