"""The gcloud commands that create each type of resource."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from infra.embedded.registry import find_type
from infra.evaluation import Registered

Labels = dict[str, str]


GIVEN = "build/given.json"
"""File for input that does not fit on the command line. gcloud does not accept a pipe for it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command and its input: it reads from `GIVEN` if it names that file, else from standard input."""

    words: tuple[str, ...]
    given: str = ""


def _gcloud(*words: str, given: str = "") -> Step:
    return Step(("gcloud", *words), given)


def _pairs(labels: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _service(item: Registered, labels: Labels) -> list[Step]:
    return [_gcloud("services", "enable", item.inputs["service"], f"--project={item.inputs['project']}")]


def _identity(item: Registered, labels: Labels) -> list[Step]:
    service = f"--service={item.inputs['service']}"
    return [_gcloud("beta", "services", "identity", "create", service, f"--project={item.inputs['project']}")]


def _agents(item: Registered, labels: Labels) -> list[Step]:
    # No released gcloud has this command in every installation, so the script sends the request itself.
    parent = item.inputs["parent"]
    address = f"https://workloadidentity.googleapis.com/v1/{parent}:generateServiceAgents"
    return [
        Step(
            ("sh", "-c", 'curl --fail -sS -X POST "$1" -H "Authorization: Bearer $(gcloud auth print-access-token)" '
             '-H "Content-Type: application/json" -d "{}"', "-", address)
        )
    ]  # fmt: skip


def _bucket(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    name = f"gs://{inputs['name']}"
    project = f"--project={inputs['project']}"
    make = ["storage", "buckets", "create", name, project, f"--location={inputs['location']}"]
    make += ["--uniform-bucket-level-access", "--public-access-prevention", "--default-storage-class=STANDARD"]
    make.append(f"--soft-delete-duration={inputs['softDeletePolicy']['retentionDurationSeconds']}s")
    if inputs.get("encryption"):
        make.append(f"--default-encryption-key={inputs['encryption']['defaultKmsKeyName']}")
    body = find_type(item.type).body({**inputs, "labels": {**labels, **inputs["labels"]}})
    change = ["storage", "buckets", "update", name, f"--update-labels={_pairs(body['labels'])}"]
    change.append("--versioning" if body["versioning"]["enabled"] else "--no-versioning")
    change.append(f"--lifecycle-file={GIVEN}")
    steps = [_gcloud(*change, given=json.dumps(body["lifecycle"]))]
    return steps if item.import_id else [_gcloud(*make), *steps]


def _member(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    granted = [f"--member={inputs['member']}", f"--role={inputs['role']}"]
    condition = inputs.get("condition")
    if condition:
        parts = [f"{key}={condition[key]}" for key in ("expression", "title", "description") if condition.get(key)]
        # A separator other than the comma, because expressions contain commas.
        conditioned = "--condition=^~^" + "~".join(parts)
    else:
        conditioned = "--condition=None"
    if "bucket" in inputs:
        bucket = f"gs://{inputs['bucket']}"
        return [_gcloud("storage", "buckets", "add-iam-policy-binding", bucket, *granted, conditioned)]
    if "serviceAccountId" in inputs:
        email = str(inputs["serviceAccountId"]).rsplit("/", 1)[-1]
        project = f"--project={str(inputs['serviceAccountId']).split('/')[1]}"
        return [
            _gcloud("iam", "service-accounts", "add-iam-policy-binding", email, *granted, project, "--condition=None")
        ]
    if "cryptoKeyId" in inputs:
        return [_gcloud("kms", "keys", "add-iam-policy-binding", inputs["cryptoKeyId"], *granted)]
    if item.type.endswith(":ServiceIamMember"):
        where = [f"--region={inputs['location']}", f"--project={inputs['project']}"]
        return [_gcloud("run", "services", "add-iam-policy-binding", inputs["name"], *granted, *where)]
    return [_gcloud("projects", "add-iam-policy-binding", inputs["project"], *granted, conditioned)]


def _account(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["iam", "service-accounts", "create", inputs["accountId"], f"--project={inputs['project']}"]
    return [
        _gcloud(*words, f"--display-name={inputs['displayName']}", f"--description={inputs.get('description', '')}")
    ]


def _role(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["iam", "roles", "create", inputs["roleId"], f"--project={inputs['project']}", f"--stage={inputs['stage']}"]
    words += [f"--title={inputs['title']}", f"--description={inputs['description']}"]
    return [_gcloud(*words, f"--permissions={','.join(inputs['permissions'])}")]


def _pool(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["iam", "workload-identity-pools", "create", inputs["workloadIdentityPoolId"], "--location=global"]
    return [_gcloud(*words, f"--project={inputs['project']}", f"--display-name={inputs['displayName']}")]


def _provider(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    mapping = "~".join(f"{key}={value}" for key, value in sorted(inputs["attributeMapping"].items()))
    return [
        _gcloud(
            "iam",
            "workload-identity-pools",
            "providers",
            "create-oidc",
            inputs["workloadIdentityPoolProviderId"],
            f"--workload-identity-pool={inputs['workloadIdentityPoolId']}",
            "--location=global",
            f"--project={inputs['project']}",
            f"--display-name={inputs['displayName']}",
            f"--issuer-uri={inputs['oidc']['issuerUri']}",
            f"--attribute-mapping=^~^{mapping}",
            f"--attribute-condition={inputs['attributeCondition']}",
        )
    ]


def _endpoint(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["ai", "endpoints", "create", f"--endpoint-id={inputs['name']}", f"--region={inputs['location']}"]
    words += [f"--project={inputs['project']}", f"--display-name={inputs['displayName']}"]
    words += [f"--description={inputs['description']}", f"--labels={_pairs({**labels, **inputs.get('labels', {})})}"]
    if inputs.get("encryptionSpec"):
        words.append(f"--encryption-kms-key-name={inputs['encryptionSpec']['kmsKeyName']}")
    if inputs.get("dedicatedEndpointEnabled"):
        words.append("--dedicated-endpoint-enabled")
    if inputs.get("privateServiceConnectConfig"):
        words.append(f"--private-service-connect-config={json.dumps(inputs['privateServiceConnectConfig'])}")
    return [_gcloud(*words)]


def _object(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["storage", "cp", "-", f"gs://{inputs['bucket']}/{inputs['name']}"]
    words += [f"--content-type={inputs['contentType']}", f"--cache-control={inputs['cacheControl']}"]
    return [_gcloud(*words, given=inputs["content"])]


def _function(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    build, service = inputs["buildConfig"], inputs["serviceConfig"]
    variables = "~".join(f"{key}={value}" for key, value in sorted(service["environmentVariables"].items()))
    words = ["functions", "deploy", inputs["name"], "--gen2", f"--region={inputs['location']}", "--trigger-http"]
    words += [f"--project={inputs['project']}", f"--runtime={build['runtime']}", f"--entry-point={build['entryPoint']}"]
    words += [
        "--source=build/idle-guard",
        "--no-allow-unauthenticated",
        f"--build-service-account={build['serviceAccount']}",
    ]
    words += [f"--run-service-account={service['serviceAccountEmail']}", f"--memory={service['availableMemory']}"]
    words += [f"--max-instances={service['maxInstanceCount']}", f"--timeout={service['timeoutSeconds']}s"]
    words += [f"--set-env-vars=^~^{variables}", f"--update-labels={_pairs({**labels, **inputs.get('labels', {})})}"]
    return [_gcloud(*words)]


def _schedule(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    target = inputs["httpTarget"]
    words = ["scheduler", "jobs", "create", "http", inputs["name"], f"--location={inputs['region']}"]
    words += [f"--project={inputs['project']}", f"--schedule={inputs['schedule']}", f"--time-zone={inputs['timeZone']}"]
    words += [
        f"--uri={target['uri']}",
        f"--http-method={target['httpMethod']}",
        f"--description={inputs['description']}",
    ]
    words += [f"--oidc-service-account-email={target['oidcToken']['serviceAccountEmail']}"]
    words += [
        f"--oidc-token-audience={target['oidcToken']['audience']}",
        f"--attempt-deadline={inputs['attemptDeadline']}",
    ]
    return [_gcloud(*words)]


def _channel(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["beta", "monitoring", "channels", "create", f"--project={inputs['project']}", f"--type={inputs['type']}"]
    words += [f"--display-name={inputs['displayName']}", f"--channel-labels={_pairs(inputs['labels'])}"]
    return [_gcloud(*words)]


def _alert(item: Registered, labels: Labels) -> list[Step]:
    body = {key: value for key, value in find_type(item.type).body(item.inputs).items() if value is not None}
    words = ["monitoring", "policies", "create", f"--project={item.inputs['project']}"]
    return [_gcloud(*words, f"--policy-from-file={GIVEN}", given=json.dumps(body, sort_keys=True))]


def _budget(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    amount = inputs["amount"]["specifiedAmount"]
    words = ["billing", "budgets", "create", f"--billing-account={inputs['billingAccount']}"]
    words += [f"--display-name={inputs['displayName']}", f"--budget-amount={amount['units']}{amount['currencyCode']}"]
    words += [f"--filter-projects={','.join(inputs['budgetFilter']['projects'])}"]
    words += ["--credit-types-treatment=include-all-credits"]
    for rule in inputs["thresholdRules"]:
        basis = "forecasted-spend" if rule["spendBasis"] == "FORECASTED_SPEND" else "current-spend"
        words.append(f"--threshold-rule=percent={rule['thresholdPercent']},basis={basis}")
    channels = (inputs.get("allUpdatesRule") or {}).get("monitoringNotificationChannels") or []
    if channels:
        words.append(f"--notifications-rule-monitoring-notification-channels={','.join(channels)}")
    return [_gcloud(*words)]


def _audit(item: Registered, labels: Labels) -> list[Step]:
    """Change the whole policy: gcloud has no command for the audit logs of one service."""
    inputs = item.inputs
    entry = json.dumps({"service": inputs["service"], "auditLogConfigs": inputs["auditLogConfigs"]})
    program = (
        "import json, sys; policy = json.load(sys.stdin); entry = json.loads(sys.argv[1]); "
        "others = [item for item in policy.get('auditConfigs', []) if item['service'] != entry['service']]; "
        "json.dump({**policy, 'auditConfigs': [*others, entry]}, sys.stdout)"
    )
    script = (
        'gcloud projects get-iam-policy "$1" --format=json | python3 -c "$2" "$3" > build/given.json && '
        'gcloud projects set-iam-policy "$1" build/given.json'
    )
    return [Step(("sh", "-c", script, "-", inputs["project"], program, entry))]


def _quota(item: Registered, labels: Labels) -> list[Step]:
    inputs = item.inputs
    words = ["beta", "quotas", "preferences", "create", f"--preference-id={inputs['name']}"]
    words += [f"--project={inputs['parent'].rsplit('/', 1)[-1]}", f"--service={inputs['service']}"]
    words += [f"--quota-id={inputs['quotaId']}", f"--preferred-value={inputs['quotaConfig']['preferredValue']}"]
    words += [f"--email={inputs['contactEmail']}", f"--justification={inputs['justification']}"]
    return [_gcloud(*words)]


def _perimeter(item: Registered, labels: Labels) -> list[Step]:
    _, policy, _, name = item.inputs["perimeterName"].split("/")
    dry = ["dry-run"] if "DryRun" in item.type else []
    words = ["access-context-manager", "perimeters", *dry, "update", name, f"--policy={policy}"]
    return [_gcloud(*words, f"--add-resources={item.inputs['resource']}")]


Writer = Callable[[Registered, Labels], list[Step]]
WRITERS: dict[str, Writer] = {
    "service:Service": _service,
    ":ServiceIdentity": _identity,
    ":WorkloadIdentityServiceAgent": _agents,
    "bucket:Bucket": _bucket,
    "projects/iAMMember:IAMMember": _member,
    ":BucketIAMMember": _member,
    "serviceaccount/iAMMember:IAMMember": _member,
    ":CryptoKeyIAMMember": _member,
    ":ServiceIamMember": _member,
    ":Account": _account,
    ":IAMCustomRole": _role,
    ":WorkloadIdentityPool": _pool,
    ":WorkloadIdentityPoolProvider": _provider,
    ":AiEndpoint": _endpoint,
    ":BucketObject": _object,
    ":Function": _function,
    ":Job": _schedule,
    ":NotificationChannel": _channel,
    ":AlertPolicy": _alert,
    ":Budget": _budget,
    ":IAMAuditConfig": _audit,
    ":SQuotaPreference": _quota,
    ":ServicePerimeterDryRunResource": _perimeter,
    ":ServicePerimeterResource": _perimeter,
}
"""Writers by the end of the type token."""
