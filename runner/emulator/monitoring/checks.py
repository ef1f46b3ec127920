"""Validation of notification channels and alert policies, as in Cloud Monitoring."""

from __future__ import annotations

from typing import Any

from runner.emulator.errors import invalid
from runner.emulator.resources import exactly_one, text

CHANNEL_LABELS: dict[str, tuple[str, ...]] = {
    "cloud_mobile_app": (),
    "campfire": ("account", "room"),
    "email": ("email_address",),
    "google_chat": ("space",),
    "pagerduty": ("service_key",),
    "pubsub": ("topic",),
    "slack": ("channel_name",),
    "sms": ("number",),
    "webhook_basicauth": ("url",),
    "webhook_tokenauth": ("url",),
}
"""Labels that each type of channel requires (notificationChannelDescriptors)."""

_SENSITIVE = frozenset({"service_key", "auth_token", "password", "token"})
_CONDITIONS = (
    "conditionThreshold",
    "conditionAbsent",
    "conditionMatchedLog",
    "conditionMonitoringQueryLanguage",
    "conditionPrometheusQueryLanguage",
    "conditionSql",
)
_MAX_CONDITIONS = 6
_MAX_CHANNELS = 16


def channel(body: dict[str, Any]) -> None:
    """Check a notification channel. Raises ApiError INVALID_ARGUMENT."""
    kind = text(body, "type", maximum=100, required=True)
    if kind not in CHANNEL_LABELS:
        raise invalid(f'Field "notification_channel.type" had an invalid value of "{kind}": unknown channel type.')
    text(body, "displayName", maximum=512)
    text(body, "description", maximum=1024)
    given = {**body.get("labels", {}), **body.get("sensitiveLabels", {})}
    missing = [name for name in CHANNEL_LABELS[kind] if not given.get(name)]
    if missing:
        raise invalid(f"Field \"notification_channel.labels['{missing[0]}']\" is required for channels of type {kind}.")


def hidden(body: dict[str, Any]) -> dict[str, Any]:
    """Return a channel for a response, with sensitive labels masked."""
    labels = body.get("labels")
    if not labels or _SENSITIVE.isdisjoint(labels):
        return body
    return {**body, "labels": {key: "*****" if key in _SENSITIVE else value for key, value in labels.items()}}


def policy(body: dict[str, Any]) -> None:
    """Check an alert policy. Raises ApiError INVALID_ARGUMENT."""
    text(body, "displayName", maximum=512, required=True)
    if body.get("combiner", "COMBINE_UNSPECIFIED") == "COMBINE_UNSPECIFIED":
        raise invalid('Field "alert_policy.combiner" must be set.')
    conditions = body.get("conditions", [])
    if not 1 <= len(conditions) <= _MAX_CONDITIONS:
        raise invalid(f"An alert policy must have between 1 and {_MAX_CONDITIONS} conditions.")
    for condition in conditions:
        _condition(condition)
    _log_matches(body)
    if len(body.get("notificationChannels", [])) > _MAX_CHANNELS:
        raise invalid(f"An alert policy must not have more than {_MAX_CHANNELS} notification channels.")


def _log_matches(body: dict[str, Any]) -> None:
    """A condition on log entries must be the only one in its policy, which limits its notifications."""
    conditions = body["conditions"]
    if not any("conditionMatchedLog" in condition for condition in conditions):
        return
    if len(conditions) > 1:
        raise invalid("An alert policy with a log match condition must have exactly one condition.")
    if "period" not in body.get("alertStrategy", {}).get("notificationRateLimit", {}):
        raise invalid(
            'Field "alert_policy.alert_strategy.notification_rate_limit" is required for log match conditions.'
        )


def _condition(condition: dict[str, Any]) -> None:
    text(condition, "displayName", maximum=512, required=True)
    kind = exactly_one(condition, _CONDITIONS)
    body = condition[kind]
    if kind in ("conditionThreshold", "conditionAbsent", "conditionMatchedLog"):
        text(body, "filter", maximum=2048, required=True)
    if kind == "conditionThreshold" and body.get("comparison") not in ("COMPARISON_GT", "COMPARISON_LT"):
        raise invalid("Only COMPARISON_LT and COMPARISON_GT are supported currently.")
    duration = body.get("duration")
    if duration is not None and float(duration.removesuffix("s")) % 60:
        raise invalid(f"The duration {duration!r} must be a multiple of 60 seconds, for example '300s'.")
