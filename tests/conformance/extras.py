"""Where the emulator's answers may differ from Google's definitions, each with its reason. Anything else fails."""

from __future__ import annotations

UNCHECKED = ("emulator.", "oauth2.", "storage.xml.", "storage.batch")
"""Not of Google's discovery documents."""

ANSWERS: dict[str, dict[str, str]] = {
    "*": {},
    "aiplatform.projects.locations.tuningJobs.create": {"answer.emulator": "says which stand-in trains"},
    "aiplatform.projects.locations.tuningJobs.get": {"answer.emulator": "says which stand-in trains"},
    "aiplatform.projects.locations.tuningJobs.list": {
        "answer.tuningJobs[].emulator": "says which stand-in trains",
    },
}
"""By method's id, or `*`: the begin of a violation to its reason."""

ERRORS: dict[tuple[int, str], str] = {
    (400, "UNIMPLEMENTED"): "what Google can and the emulator cannot: 501 would be repeated (docs/emulator.md)",
    (502, "UNAVAILABLE"): "an armed fault: google.rpc has no status of its own for 502",
    (507, "INTERNAL"): "the emulator's disk is full: no client repeats it",
}
"""HTTP codes with a status that does not belong to them."""

SYSTEM_PARAMETERS = frozenset(
    {
        *("alt", "fields", "prettyPrint", "key", "access_token", "oauth_token", "quotaUser", "userIp", "userProject"),
        *("upload_protocol", "uploadType", "callback", "apiVersion", ".xgafv"),
    }
)
"""https://cloud.google.com/apis/docs/system-parameters"""
