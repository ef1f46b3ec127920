"""The same resources as gcloud commands: for readers, for reviews, and where nobody may run Pulumi."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from infra.evaluation import Evaluation, Registered

Inputs = dict[str, Any]

ORDER = (
    ":Service",
    ":ServiceIdentity",
    ":WorkloadIdentityServiceAgent",
    ":CryptoKeyIAMMember",
    "bucket:Bucket",
    ":Account",
    ":WorkloadIdentityPool",
    ":WorkloadIdentityPoolProvider",
    "projects/iAMMember:IAMMember",
    ":BucketIAMMember",
    "serviceaccount/iAMMember:IAMMember",
    ":AiEndpoint",
)
"""What needs what: the engine works it out from the program, a list of commands has to be in order."""


def commands(evaluation: Evaluation) -> list[str]:
    """Return one command for each resource that gcloud can make; the others are named in comments."""
    ranked = sorted(
        (item for item in evaluation.resources if item.custom and not item.type.startswith("pulumi:")),
        key=lambda item: next((rank for rank, kind in enumerate(ORDER) if item.type.endswith(kind)), len(ORDER)),
    )
    lines = []
    if any("@gs-project-accounts." in str(item.inputs.get("member")) for item in ranked):
        # The program asks for this account, which makes it.
        (provider,) = evaluation.of_type("pulumi:providers:gcp")
        lines.append(f"gcloud storage service-agent --project={provider.inputs['project']}")
    for item in ranked:
        write = next((write for kind, write in _WRITERS.items() if item.type.endswith(kind)), None)
        if write is None:
            lines.append(f"# {item.type.rsplit(':', 1)[-1]} {item.name}: no command here; `pulumi up` makes it")
        else:
            lines.append(" ".join(["gcloud", *(shlex.quote(word) for word in write(item))]))
    return lines


def _service(item: Registered) -> list[str]:
    return ["services", "enable", item.inputs["service"], f"--project={item.inputs['project']}"]


def _identity(item: Registered) -> list[str]:
    service = f"--service={item.inputs['service']}"
    return ["beta", "services", "identity", "create", service, f"--project={item.inputs['project']}"]


def _agents(item: Registered) -> list[str]:
    project = item.inputs["parent"].split("/")[1]
    return [
        "beta",
        "workload-identity",
        "service-agents",
        "generate",
        "--service-producer=aiplatform.googleapis.com",
        "--location=global",
        f"--project={project}",
    ]


def _bucket(item: Registered) -> list[str]:
    inputs = item.inputs
    words = ["storage", "buckets", "create", f"gs://{inputs['name']}", f"--project={inputs['project']}"]
    words += [f"--location={inputs['location']}", "--uniform-bucket-level-access", "--public-access-prevention"]
    words.append(f"--soft-delete-duration={inputs['softDeletePolicy']['retentionDurationSeconds']}s")
    if inputs.get("encryption"):
        words.append(f"--default-encryption-key={inputs['encryption']['defaultKmsKeyName']}")
    return words


def _member(item: Registered) -> list[str]:
    inputs = item.inputs
    granted = [f"--member={inputs['member']}", f"--role={inputs['role']}"]
    if "bucket" in inputs:
        return ["storage", "buckets", "add-iam-policy-binding", f"gs://{inputs['bucket']}", *granted]
    if "serviceAccountId" in inputs:
        email = str(inputs["serviceAccountId"]).rsplit("/", 1)[-1]
        return ["iam", "service-accounts", "add-iam-policy-binding", email, *granted]
    if "cryptoKeyId" in inputs:
        return ["kms", "keys", "add-iam-policy-binding", inputs["cryptoKeyId"], *granted]
    return ["projects", "add-iam-policy-binding", inputs["project"], *granted, "--condition=None"]


def _account(item: Registered) -> list[str]:
    inputs = item.inputs
    words = ["iam", "service-accounts", "create", inputs["accountId"], f"--project={inputs['project']}"]
    return [*words, f"--display-name={inputs['displayName']}"]


def _pool(item: Registered) -> list[str]:
    inputs = item.inputs
    words = ["iam", "workload-identity-pools", "create", inputs["workloadIdentityPoolId"], "--location=global"]
    return [*words, f"--project={inputs['project']}"]


def _provider(item: Registered) -> list[str]:
    inputs = item.inputs
    mapping = ",".join(f"{key}={value}" for key, value in sorted(inputs["attributeMapping"].items()))
    return [
        "iam",
        "workload-identity-pools",
        "providers",
        "create-oidc",
        inputs["workloadIdentityPoolProviderId"],
        f"--workload-identity-pool={inputs['workloadIdentityPoolId']}",
        "--location=global",
        f"--project={inputs['project']}",
        f"--issuer-uri={inputs['oidc']['issuerUri']}",
        f"--attribute-mapping={mapping}",
        f"--attribute-condition={inputs['attributeCondition']}",
    ]


def _endpoint(item: Registered) -> list[str]:
    inputs = item.inputs
    words = ["ai", "endpoints", "create", f"--endpoint-id={inputs['name']}", f"--region={inputs['location']}"]
    return [*words, f"--project={inputs['project']}", f"--display-name={inputs['displayName']}"]


_WRITERS: dict[str, Callable[[Registered], list[str]]] = {
    "service:Service": _service,
    ":ServiceIdentity": _identity,
    ":WorkloadIdentityServiceAgent": _agents,
    "bucket:Bucket": _bucket,
    "projects/iAMMember:IAMMember": _member,
    ":BucketIAMMember": _member,
    "serviceaccount/iAMMember:IAMMember": _member,
    ":CryptoKeyIAMMember": _member,
    ":Account": _account,
    ":WorkloadIdentityPool": _pool,
    ":WorkloadIdentityPoolProvider": _provider,
    ":AiEndpoint": _endpoint,
}
