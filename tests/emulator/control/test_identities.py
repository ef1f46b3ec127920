"""Service accounts, their keys and tokens, and workload identity pools."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth import jwt
from google.auth.crypt import RSASigner
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from runner.emulator.clock import Clock
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.emulator.control.conftest import Call

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@pytest.fixture
def account(call: Call, bare: str) -> dict[str, Any]:
    """A service account of a new project."""
    body = {"accountId": "tuning-runner", "serviceAccount": {"displayName": "Runner"}}
    made: dict[str, Any] = call("POST", f"/v1/projects/{bare}/serviceAccounts", body)
    return made


@pytest.fixture
def key(call: Call, account: dict[str, Any]) -> dict[str, str]:
    """The credentials file of a key of `account`."""
    made = call("POST", f"/v1/{account['name']}/keys", {})
    info: dict[str, str] = json.loads(base64.b64decode(made["privateKeyData"]))
    return info


def test_an_account_lives(call: Call, bare: str, account: dict[str, Any]) -> None:
    path = f"/v1/{account['name']}"
    assert account["email"] == f"tuning-runner@{bare}.iam.gserviceaccount.com"
    assert call("GET", path) == account
    assert call("GET", f"/v1/projects/-/serviceAccounts/{account['uniqueId']}") == account
    assert call("GET", f"/v1/projects/{bare}/serviceAccounts")["accounts"] == [account]
    call("POST", f"/v1/projects/{bare}/serviceAccounts", {"accountId": "tuning-runner"}, expect=409)
    changed = call(
        "PATCH", path, {"serviceAccount": {"description": "d", "displayName": "no"}, "updateMask": "description"}
    )
    assert (changed["description"], changed["displayName"]) == ("d", "Runner")
    stale = {"serviceAccount": {"displayName": "x", "etag": account["etag"]}, "updateMask": "display_name"}
    call("PATCH", path, stale, expect=409)
    call("PATCH", path, {"serviceAccount": {"email": "x"}, "updateMask": "email"}, expect=400)
    call("POST", f"{path}:disable", {})
    assert call("GET", path)["disabled"] is True
    call("POST", f"{path}:enable", {})
    assert "disabled" not in call("GET", path)
    call("DELETE", path)
    assert call("GET", path, expect=404)["error"]["errors"][0]["reason"] == "notFound"
    call("DELETE", path, expect=404)
    restored = call("POST", f"/v1/projects/{bare}/serviceAccounts/{account['uniqueId']}:undelete", {})
    assert restored["restoredAccount"]["email"] == account["email"]


def test_an_account_made_again_is_another_one(call: Call, bare: str, account: dict[str, Any]) -> None:
    call("DELETE", f"/v1/{account['name']}")
    again = call("POST", f"/v1/projects/{bare}/serviceAccounts", {"accountId": "tuning-runner"})
    assert again["email"] == account["email"]
    assert again["uniqueId"] != account["uniqueId"]
    call("POST", f"/v1/projects/{bare}/serviceAccounts/{account['uniqueId']}:undelete", {}, expect=409)


@pytest.mark.parametrize("account_id", ["", "short", "Upper-case", "-leading", "trailing-", "x" * 31, 7])
def test_a_bad_account_id_is_refused(call: Call, bare: str, account_id: Any) -> None:
    call("POST", f"/v1/projects/{bare}/serviceAccounts", {"accountId": account_id}, expect=400)


def test_an_unknown_field_is_refused(call: Call, bare: str) -> None:
    body = {"accountId": "tuning-runner", "serviceAcount": {}}
    error = call("POST", f"/v1/projects/{bare}/serviceAccounts", body, expect=400)["error"]
    assert 'Unknown name "serviceAcount"' in error["message"]


def test_accounts_of_another_project_are_not_seen(call: Call, bare: str, account: dict[str, Any]) -> None:
    call("GET", f"/v1/projects/{bare}-other/serviceAccounts/{account['email']}", expect=404)


def test_the_policy_of_an_account(call: Call, account: dict[str, Any]) -> None:
    path = f"/v1/{account['name']}"
    first = call("POST", f"{path}:getIamPolicy?options.requestedPolicyVersion=3")
    binding = {"role": "roles/iam.workloadIdentityUser", "members": ["user:a@example.org"]}
    policy = {"bindings": [binding], "etag": first["etag"], "version": 3}
    assert call("POST", f"{path}:setIamPolicy", {"policy": policy})["bindings"] == [binding]
    call("POST", f"{path}:setIamPolicy", {"policy": policy}, expect=409)
    asked = {"permissions": ["iam.serviceAccounts.getAccessToken"]}
    assert call("POST", f"{path}:testIamPermissions", asked) == asked


def test_a_key_is_shown_whole_only_once(call: Call, account: dict[str, Any], key: dict[str, str]) -> None:
    path = f"/v1/{account['name']}/keys"
    (listed,) = call("GET", path)["keys"]
    assert not {"privateKeyData", "publicKey"} & set(listed)
    assert call("GET", f"/v1/{listed['name']}") == listed
    assert listed["name"].endswith(key["private_key_id"])
    call("DELETE", f"/v1/{listed['name']}")
    call("GET", f"/v1/{listed['name']}", expect=404)
    call("POST", path, {"privateKeyType": "TYPE_PKCS12_FILE"}, expect=400)


def test_googles_library_gets_a_token_that_is_the_account(
    emulator: EmulatorServer, call: Call, bare: str, account: dict[str, Any], key: dict[str, str]
) -> None:
    assert key["token_uri"] == f"{emulator.url}/token"
    credentials = service_account.Credentials.from_service_account_info(key, scopes=[_SCOPE])
    credentials.refresh(Request())
    bearer = {"Authorization": f"Bearer {credentials.token}"}
    asked = {"permissions": ["aiplatform.tuningJobs.create", "resourcemanager.projects.setIamPolicy"]}
    path = f"/v1/projects/{bare}:testIamPermissions"
    assert call("POST", path, asked) == asked, "the developer may do everything"
    assert call("POST", path, asked, headers=bearer) == {}
    binding = {"role": "roles/aiplatform.user", "members": [f"serviceAccount:{account['email']}"]}
    call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": {"bindings": [binding]}})
    assert call("POST", path, asked, headers=bearer)["permissions"] == ["aiplatform.tuningJobs.create"]


def _assertion(key: dict[str, str], **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": key["client_email"], "scope": _SCOPE, "aud": key["token_uri"], "iat": now, "exp": now + 3600}
    signer = RSASigner.from_string(key["private_key"], key["private_key_id"])
    token: bytes = jwt.encode(signer, {**claims, **changes})
    return token.decode()


def _exchange(client: httpx.Client, assertion: str, grant: str = "urn:ietf:params:oauth:grant-type:jwt-bearer") -> Any:
    response = client.post("/token", data={"grant_type": grant, "assertion": assertion})
    assert response.status_code in (200, 400)
    return response.json()


def test_a_token_needs_a_genuine_assertion(
    client: httpx.Client, call: Call, account: dict[str, Any], key: dict[str, str]
) -> None:
    assert _exchange(client, _assertion(key))["token_type"] == "Bearer"
    head, claims, _ = _assertion(key).split(".")
    forged = base64.urlsafe_b64encode(b"x" * 256).decode().rstrip("=")
    now = int(time.time())
    for assertion, words in (
        (f"{head}.{claims}.{forged}", "Signature"),
        (_assertion({**key, "private_key_id": "0" * 40}), "Signature"),
        (_assertion(key, iss="nobody@nowhere.iam.gserviceaccount.com"), "not found"),
        (_assertion(key, aud="https://elsewhere.example/token"), "audience"),
        (_assertion(key, iat=now - 7200, exp=now - 3600), "short-lived"),
        (_assertion(key, exp=now + 86400), "short-lived"),
        (_assertion(key, iat=None), "iat and exp"),
        ("no.jwt", "parse"),
        ("", "parse"),
    ):
        answer = _exchange(client, assertion)
        assert answer["error"] == "invalid_grant", assertion
        assert words in answer["error_description"]
    assert _exchange(client, "", grant="password")["error"] == "unsupported_grant_type"
    call("POST", f"/v1/{account['name']}:disable", {})
    assert "disabled" in _exchange(client, _assertion(key))["error_description"]
    call("POST", f"/v1/{account['name']}:enable", {})
    call("DELETE", f"/v1/{account['name']}/keys/{key['private_key_id']}")
    assert "Signature" in _exchange(client, _assertion(key))["error_description"]


def test_a_token_signed_by_a_key_is_the_account(
    call: Call, bare: str, account: dict[str, Any], key: dict[str, str]
) -> None:
    """gapic's and Node's libraries send such tokens where an access token would be."""
    path = f"/v1/projects/{bare}:testIamPermissions"
    asked = {"permissions": ["aiplatform.tuningJobs.create"]}

    def bearer(**changes: Any) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {_assertion(key, **{'aud': 'https://aiplatform.googleapis.com/', **changes})}"
        }

    assert call("POST", path, asked, headers=bearer()) == {}
    binding = {"role": "roles/aiplatform.user", "members": [f"serviceAccount:{account['email']}"]}
    call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": {"bindings": [binding]}})
    assert call("POST", path, asked, headers=bearer()) == asked
    now = int(time.time())
    for wrong in ({"iat": now - 7200, "exp": now - 3600}, {"iat": None}, {"scope": "", "aud": ""}):
        refused = call("POST", path, asked, headers=bearer() | bearer(**wrong), expect=401)
        assert refused["error"]["status"] == "UNAUTHENTICATED"
    head, claims, _ = bearer()["Authorization"].split(".")
    call("POST", path, asked, headers={"Authorization": f"{head}.{claims}.AAAA"}, expect=401)
    stranger = bearer(iss="nobody@nowhere.iam.gserviceaccount.com")
    assert call("POST", path, asked, headers=stranger) == asked, "a token of elsewhere is the developer's"


def test_permissions_are_held_by_the_policy_of_the_resource_or_of_one_above(
    client: httpx.Client, call: Call, bare: str, account: dict[str, Any], key: dict[str, str]
) -> None:
    headers = {"Authorization": "Bearer " + _exchange(client, _assertion(key))["access_token"]}
    project, ring = f"/v1/projects/{bare}", f"/kms/v1/projects/{bare}/locations/us-central1/keyRings/ring"
    call("POST", f"{project}/services/cloudkms.googleapis.com:enable", {})
    call("POST", f"{ring.removesuffix('/ring')}?keyRingId=ring", {})
    call("POST", f"{ring}/cryptoKeys?cryptoKeyId=key", {"purpose": "ENCRYPT_DECRYPT"})
    encrypts = ("roles/cloudkms.cryptoKeyEncrypter", "cloudkms.cryptoKeyVersions.useToEncrypt")
    acts = ("roles/iam.serviceAccountUser", "iam.serviceAccounts.actAs")
    of_account, unnamed = f"/v1/{account['name']}", f"/v1/projects/-/serviceAccounts/{account['email']}"
    for resource, (role, permission), holders in (
        (f"{ring}/cryptoKeys/key", encrypts, (f"{ring}/cryptoKeys/key", ring, project)),
        (ring, encrypts, (ring, project)),
        (of_account, acts, (of_account, project)),
        (unnamed, acts, (of_account, project)),
    ):
        asked = {"permissions": [permission]}
        for holder in holders:
            assert call("POST", f"{resource}:testIamPermissions", asked, headers=headers) == {}
            binding = {"role": role, "members": [f"serviceAccount:{account['email']}"]}
            call("POST", f"{holder}:setIamPolicy", {"policy": {"bindings": [binding]}})
            assert call("POST", f"{resource}:testIamPermissions", asked, headers=headers) == asked, (resource, holder)
            call("POST", f"{holder}:setIamPolicy", {"policy": {"bindings": []}})


def test_a_token_of_broken_text_is_refused_or_of_elsewhere(
    client: httpx.Client, call: Call, bare: str, key: dict[str, str]
) -> None:
    def encoded(part: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")

    path, asked = f"/v1/projects/{bare}:testIamPermissions", {"permissions": ["aiplatform.tuningJobs.create"]}
    for head, claims in (({}, {"iss": "\ud800"}), ({"kid": "\ud800"}, {"iss": key["client_email"]})):
        token = f"{encoded(head)}.{encoded(claims)}.AAAA"
        assert _exchange(client, token)["error"] == "invalid_grant"
        assert call("POST", path, asked, headers={"Authorization": f"Bearer {token}"}) == asked
    now = int(time.time())
    for wrong in ({"iat": -(10**400)}, {"exp": 10**400}, {"iat": now, "exp": [now]}):
        call("POST", path, asked, headers={"Authorization": f"Bearer {_assertion(key, **wrong)}"}, expect=401)


def test_impersonation_needs_the_permission_and_the_api(
    client: httpx.Client, call: Call, bare: str, account: dict[str, Any], key: dict[str, str]
) -> None:
    path = f"/v1/projects/-/serviceAccounts/{account['email']}:generateAccessToken"
    body = {"scope": [_SCOPE], "lifetime": "600s"}
    off = call("POST", path, body, expect=403)["error"]
    assert off["details"][0]["reason"] == "SERVICE_DISABLED"
    call("POST", f"/v1/projects/{bare}/services/iamcredentials.googleapis.com:enable", {})
    assert call("POST", path, body)["accessToken"]
    bearer = {"Authorization": "Bearer " + _exchange(client, _assertion(key))["access_token"]}
    denied = call("POST", path, body, expect=403, headers=bearer)["error"]
    assert denied["details"][0]["metadata"]["permission"] == "iam.serviceAccounts.getAccessToken"
    binding = {"role": "roles/iam.serviceAccountTokenCreator", "members": [f"serviceAccount:{account['email']}"]}
    call("POST", f"/v1/{account['name']}:setIamPolicy", {"policy": {"bindings": [binding]}})
    assert call("POST", path, body, headers=bearer)["accessToken"]
    for bad in ({**body, "lifetime": "7200s"}, {**body, "lifetime": "soon"}, {"lifetime": "60s"}):
        call("POST", path, bad, expect=400)


def test_a_pool_and_its_provider_live(call: Call, bare: str) -> None:
    number = call("GET", f"/v1/projects/{bare}")["projectNumber"]
    pools = f"/v1/projects/{bare}/locations/global/workloadIdentityPools"
    provider = {
        "attributeMapping": {"google.subject": "assertion.sub"},
        "oidc": {"issuerUri": "https://issuer.example"},
    }
    call("POST", f"{pools}/github/providers?workloadIdentityPoolProviderId=main", provider, expect=404)
    operation = call("POST", f"{pools}?workloadIdentityPoolId=github", {"displayName": "GitHub"})
    assert call("GET", f"/v1/{operation['name']}") == operation
    assert operation["done"] is True
    call("POST", f"{pools}?workloadIdentityPoolId=github", {}, expect=409)
    pool = call("GET", f"{pools}/github")
    name = f"projects/{number}/locations/global/workloadIdentityPools/github"
    assert pool == {"displayName": "GitHub", "name": name, "state": "ACTIVE"}
    assert call("GET", f"{pools}/github:listAttestationRules") == {}
    operation = call("POST", f"{pools}/github/providers?workloadIdentityPoolProviderId=main", provider)
    assert call("GET", f"/v1/{operation['name']}")["response"]["oidc"] == provider["oidc"]
    call("PATCH", f"{pools}/github/providers/main?updateMask=attributeCondition", {"attributeCondition": "true"})
    changed = call("GET", f"{pools}/github/providers/main")
    assert (changed["attributeCondition"], changed["oidc"]) == ("true", provider["oidc"])
    call("PATCH", f"{pools}/github/providers/main?updateMask=oidc", {}, expect=400)
    call("PATCH", f"{pools}/github", {"displayName": "Without a mask"}, expect=400)
    call("DELETE", f"{pools}/github/providers/main")
    assert call("GET", f"{pools}/github/providers/main")["state"] == "DELETED"
    assert call("GET", f"{pools}/github/providers") == {}
    assert len(call("GET", f"{pools}/github/providers?showDeleted=true")["workloadIdentityPoolProviders"]) == 1
    call("POST", f"{pools}/github/providers/main:undelete", {})
    assert call("GET", f"{pools}/github/providers/main")["state"] == "ACTIVE"


@pytest.mark.parametrize(
    "provider",
    [
        {},
        {"oidc": {"issuerUri": "http://plain.example"}, "attributeMapping": {"google.subject": "assertion.sub"}},
        {"oidc": {"issuerUri": "https://issuer.example"}},
        {"oidc": {}, "aws": {"accountId": "1"}, "attributeMapping": {"google.subject": "assertion.sub"}},
        {"oidc": {"issuerUri": "https://issuer.example"}, "attributeMapping": {"google.subject": 1}},
    ],
)
def test_a_provider_that_trusts_nobody_properly_is_refused(call: Call, bare: str, provider: Any) -> None:
    pools = f"/v1/projects/{bare}/locations/global/workloadIdentityPools"
    call("POST", f"{pools}?workloadIdentityPoolId=github", {})
    call("POST", f"{pools}/github/providers?workloadIdentityPoolProviderId=main", provider, expect=400)
    call("POST", f"{pools}?workloadIdentityPoolId=gcp-reserved", {}, expect=400)


def test_a_deleted_pool_keeps_its_name_for_30_days_and_a_token_an_hour(tmp_path: Path) -> None:
    shift = timedelta(0)
    clock = Clock(lambda: datetime.now(UTC) + shift)
    settings = EmulatorSettings(directory=tmp_path / "state", stand_in="tiny")
    with EmulatorServer(settings, clock=clock) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        pools = "/v1/projects/shifted/locations/global/workloadIdentityPools"
        assert client.post(f"{pools}?workloadIdentityPoolId=github", json={}).status_code == 200
        client.post("/v1/projects/shifted/serviceAccounts", json={"accountId": "tuning-runner"})
        email = "tuning-runner@shifted.iam.gserviceaccount.com"
        client.post("/v1/projects/shifted/services/iamcredentials.googleapis.com:enable", json={})
        path = f"/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        token = client.post(path, json={"scope": [_SCOPE]}).json()["accessToken"]
        asked = {"permissions": ["aiplatform.tuningJobs.create"]}
        headers = {"Authorization": f"Bearer {token}"}

        def may() -> Any:
            return client.post("/v1/projects/shifted:testIamPermissions", json=asked, headers=headers).json()

        assert may() == {}
        assert client.delete(f"{pools}/github").json()["response"]["state"] == "DELETED"
        assert client.delete(f"{pools}/github").status_code == 400
        shift = timedelta(days=29)
        assert may()["error"]["status"] == "UNAUTHENTICATED", "an expired token is not a developer's"
        assert client.post(f"{pools}?workloadIdentityPoolId=github", json={}).status_code == 409
        shift = timedelta(days=31)
        assert client.get(f"{pools}/github").status_code == 404
        assert client.post(f"{pools}/github:undelete", json={}).status_code == 404
        assert client.post(f"{pools}?workloadIdentityPoolId=github", json={}).status_code == 200


def test_a_fast_clock_does_not_outrun_what_clients_sign(tmp_path: Path) -> None:
    clock = Clock(scale=10_000, since=datetime.now(UTC) - timedelta(minutes=1))
    with (
        EmulatorServer(EmulatorSettings(directory=tmp_path / "state"), clock=clock) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        account = client.post("/v1/projects/fast/serviceAccounts", json={"accountId": "tuning-runner"}).json()
        made = client.post(f"/v1/{account['name']}/keys", json={}).json()
        key = json.loads(base64.b64decode(made["privateKeyData"]))
        assert _exchange(client, _assertion(key))["token_type"] == "Bearer"


def test_a_role_is_not_changed_by_who_has_read_an_older_one(call: Call, bare: str) -> None:
    roles = f"/v1/projects/{bare}/roles"
    made = call("POST", roles, {"roleId": "reader", "role": {"title": "a", "includedPermissions": ["iam.roles.get"]}})
    path = f"{roles}/reader?updateMask=title"
    call("PATCH", path, {"title": "b", "etag": made["etag"]})
    call("PATCH", path, {"title": "c", "etag": made["etag"]}, expect=409)
    assert call("GET", f"{roles}/reader")["title"] == "b"
