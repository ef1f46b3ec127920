"""APIs that Google publishes no discovery document for in its Python client, in the form of one.

Cloud Quotas follows google/api/cloudquotas/v1/*.proto as google-cloud-quotas 0.1 generates from it; the method of
Workload Identity follows what Google's Terraform provider sends.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_PROJECT = "v1/projects/{projectsId}/locations/{locationsId}"
_STRING: Json = {"type": "string"}
_BOOL: Json = {"type": "boolean"}
_OUT: Json = {"type": "string", "readOnly": True}
_INT64: Json = {"type": "string", "format": "int64"}
_TIME: Json = {"type": "string", "format": "google-datetime", "readOnly": True}
_MAP: Json = {"type": "object", "additionalProperties": _STRING}
_OPERATION: Json = {
    "name": _STRING,
    "metadata": {"type": "object", "additionalProperties": {"type": "any"}},
    "done": _BOOL,
    "error": {"$ref": "Status"},
    "response": {"type": "object", "additionalProperties": {"type": "any"}},
}
_STATUS: Json = {
    "code": {"type": "integer", "format": "int32"},
    "message": _STRING,
    "details": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "any"}}},
}


def _message(**fields: Json) -> Json:
    return {"type": "object", "properties": fields}


def _enum(*values: str, **more: Any) -> Json:
    return {"type": "string", "enum": list(values), **more}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _ref(name: str, **more: Any) -> Json:
    return {"$ref": name, **more}


def _method(id_: str, http: str, path: str, query: Json, request: str = "", response: str = "") -> Json:
    method: Json = {
        "id": id_,
        "httpMethod": http,
        "flatPath": path,
        "parameters": {key: {**value, "location": "query"} for key, value in query.items()},
        "response": _ref(response),
    }
    return method | ({"request": _ref(request)} if request else {})


_PAGE: Json = {"pageSize": {"type": "integer", "format": "int32"}, "pageToken": _STRING}
_CHECKS: Json = {
    "ignoreSafetyChecks": _enum(
        "QUOTA_SAFETY_CHECK_UNSPECIFIED",
        "QUOTA_DECREASE_BELOW_USAGE",
        "QUOTA_DECREASE_PERCENTAGE_TOO_HIGH",
        repeated=True,
    )
}
_PREFERENCES = f"{_PROJECT}/quotaPreferences"
_PREFERENCE = f"{_PREFERENCES}/{{quotaPreferencesId}}"
_INFOS = f"{_PROJECT}/services/{{servicesId}}/quotaInfos"
_QUOTAS = "cloudquotas.projects.locations"

CLOUD_QUOTAS: Json = {
    "revision": "0.1 of google-cloud-quotas",
    "methods": {
        str(index): method
        for index, method in enumerate(
            [
                _method(
                    f"{_QUOTAS}.quotaPreferences.create",
                    "POST",
                    _PREFERENCES,
                    {"quotaPreferenceId": _STRING, **_CHECKS},
                    "QuotaPreference",
                    "QuotaPreference",
                ),
                _method(
                    f"{_QUOTAS}.quotaPreferences.list",
                    "GET",
                    _PREFERENCES,
                    {**_PAGE, "filter": _STRING, "orderBy": _STRING},
                    "",
                    "ListQuotaPreferencesResponse",
                ),
                _method(f"{_QUOTAS}.quotaPreferences.get", "GET", _PREFERENCE, {}, "", "QuotaPreference"),
                _method(
                    f"{_QUOTAS}.quotaPreferences.patch",
                    "PATCH",
                    _PREFERENCE,
                    {
                        "updateMask": {"type": "string", "format": "google-fieldmask"},
                        "allowMissing": _BOOL,
                        "validateOnly": _BOOL,
                        **_CHECKS,
                    },
                    "QuotaPreference",
                    "QuotaPreference",
                ),
                _method(f"{_QUOTAS}.services.quotaInfos.list", "GET", _INFOS, _PAGE, "", "ListQuotaInfosResponse"),
                _method(f"{_QUOTAS}.services.quotaInfos.get", "GET", f"{_INFOS}/{{quotaInfosId}}", {}, "", "QuotaInfo"),
            ]
        )
    },
    "schemas": {
        "QuotaPreference": _message(
            name=_STRING,
            dimensions=_MAP,
            quotaConfig=_ref("QuotaConfig", description="Required."),
            etag=_STRING,
            createTime=_TIME,
            updateTime=_TIME,
            service=_STRING,
            quotaId=_STRING,
            reconciling={**_BOOL, "readOnly": True},
            justification=_STRING,
            contactEmail=_STRING,
        ),
        "QuotaConfig": _message(
            preferredValue={**_INT64, "description": "Required."},
            stateDetail=_OUT,
            grantedValue={**_INT64, "readOnly": True},
            traceId=_OUT,
            annotations=_MAP,
            requestOrigin=_enum("ORIGIN_UNSPECIFIED", "CLOUD_CONSOLE", "AUTO_ADJUSTER"),
        ),
        "ListQuotaPreferencesResponse": _message(
            quotaPreferences=_list(_ref("QuotaPreference")), nextPageToken=_STRING, unreachable=_list(_STRING)
        ),
        "ListQuotaInfosResponse": _message(quotaInfos=_list(_ref("QuotaInfo")), nextPageToken=_STRING),
        "QuotaInfo": _message(
            name=_STRING,
            quotaId=_STRING,
            metric=_STRING,
            service=_STRING,
            isPrecise=_BOOL,
            refreshInterval=_STRING,
            containerType=_enum("CONTAINER_TYPE_UNSPECIFIED", "PROJECT", "FOLDER", "ORGANIZATION"),
            dimensions=_list(_STRING),
            metricDisplayName=_STRING,
            quotaDisplayName=_STRING,
            metricUnit=_STRING,
            quotaIncreaseEligibility=_ref("QuotaIncreaseEligibility"),
            isFixed=_BOOL,
            dimensionsInfos=_list(_ref("DimensionsInfo")),
            isConcurrent=_BOOL,
            serviceRequestQuotaUri=_STRING,
        ),
        "QuotaIncreaseEligibility": _message(
            isEligible=_BOOL,
            ineligibilityReason=_enum(
                "INELIGIBILITY_REASON_UNSPECIFIED",
                "NO_VALID_BILLING_ACCOUNT",
                "OTHER",
                "NOT_SUPPORTED",
                "NOT_ENOUGH_USAGE_HISTORY",
            ),
        ),
        "DimensionsInfo": _message(dimensions=_MAP, details=_ref("QuotaDetails"), applicableLocations=_list(_STRING)),
        "QuotaDetails": _message(value=_INT64, rolloutInfo=_ref("RolloutInfo")),
        "RolloutInfo": _message(ongoingRollout=_BOOL),
    },
}

_PRODUCERS = "workloadidentity.projects.locations.serviceProducers"
WORKLOAD_IDENTITY: Json = {
    "revision": "as google-beta 7.45 uses it",
    "methods": {
        "generate": _method(
            f"{_PRODUCERS}.generateServiceAgents",
            "POST",
            f"{_PROJECT}/serviceProducers/{{serviceProducersId}}:generateServiceAgents",
            {},
            "GenerateServiceAgentsRequest",
            "Operation",
        ),
        "get": _method(
            "workloadidentity.projects.locations.operations.get",
            "GET",
            f"{_PROJECT}/operations/{{operationsId}}",
            {},
            "",
            "Operation",
        ),
    },
    "schemas": {
        "GenerateServiceAgentsRequest": _message(parent=_STRING),
        "Operation": _message(**_OPERATION),
        "Status": _message(**_STATUS),
    },
}

DOCUMENTS: dict[str, Json] = {"cloudquotas.v1": CLOUD_QUOTAS, "workloadidentity.v1": WORKLOAD_IDENTITY}
