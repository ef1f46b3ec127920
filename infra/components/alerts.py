"""Alerts and their recipients: models that stay deployed or idle, jobs that fail or wait, a guard that fails.

Vertex AI publishes metrics of endpoints but not of tuning jobs. Alerts about jobs therefore match what the idle guard
writes to its log (docs/decisions/0008-alerts-on-jobs.md); without the guard there is nothing to match.
"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp.monitoring.alert_policy import AlertPolicy
from pulumi_gcp.monitoring.notification_channel import NotificationChannel

from infra.naming import PRODUCT, idle_guard_name, marked
from infra.recorded import Recorded
from infra.settings.stack import Settings

CHANNEL = "gcp:monitoring/notificationChannel:NotificationChannel"
_ENDPOINT = 'resource.type = "aiplatform.googleapis.com/Endpoint" AND metric.type = '
_REPLICAS = f'{_ENDPOINT}"aiplatform.googleapis.com/prediction/online/replicas"'
_PREDICTIONS = f'{_ENDPOINT}"aiplatform.googleapis.com/prediction/online/prediction_count"'
_SECONDS_AN_HOUR = 3600
_LOG_STRATEGY = {"notification_rate_limit": {"period": "300s"}, "auto_close": "86400s"}
"""An alert on log entries must limit its emails; its incident closes after a day without new entries."""


def declare_alerts(settings: Settings, recorded: Recorded, options: pulumi.ResourceOptions) -> list[pulumi.Output[str]]:
    """Declare a channel for each address, and every alert; return the channels' names."""

    def channel(email: str) -> pulumi.Output[str]:
        name, labels = f"email/{email}", {"email_address": email}
        older = pulumi.ResourceOptions(aliases=list(recorded.aliases(CHANNEL, name, labels=labels)))
        return NotificationChannel(
            name,
            project=settings.project,
            display_name=marked(f"{PRODUCT}: {email}", settings.name_prefix),
            type="email",
            labels=labels,
            opts=pulumi.ResourceOptions.merge(options, older),
        ).name

    channels = [channel(email) for email in settings.notification_emails]

    def alert(name: str, title: str, conditions: list[dict[str, Any]], advice: str, **more: Any) -> None:
        # A variable, because the type checker cannot check typed dictionaries through variables.
        given: Any = conditions
        AlertPolicy(
            name,
            project=settings.project,
            display_name=marked(title, settings.name_prefix),
            combiner=more.pop("combiner", "OR"),
            conditions=given,
            documentation={"content": advice, "mime_type": "text/markdown"},
            notification_channels=channels,
            user_labels=settings.labels or None,
            opts=options,
            **more,
        )

    serving, idle = settings.serving_alert_hours, settings.idle_alert_hours
    alert(
        "model-still-deployed",
        f"A model has been deployed for {serving} h",
        [_replicas(serving)],
        "The model's machines cost money with or without requests. `runner endpoints ls` lists endpoints and models; "
        "`runner endpoints undeploy ENDPOINT` undeploys the model.",
    )
    alert(
        "endpoint-idle",
        f"An endpoint with a model has had no requests for {idle} h",
        [_replicas(idle), _no_predictions(idle)],
        "`runner endpoints undeploy ENDPOINT` undeploys the model. The idle guard does so when the lease ends.",
        # Both conditions for the same endpoint: the traffic of another endpoint is irrelevant.
        combiner="AND_WITH_MATCHING_RESOURCE",
    )
    if not settings.idle_guard:
        return channels
    guard = idle_guard_name(settings.name_prefix)
    alert(
        "job-failed",
        "A tuning job failed",
        [_logged(guard, "job failed")],
        "`runner jobs why JOB` shows the reason and the next command.",
        alert_strategy=_LOG_STRATEGY,
        severity="ERROR",
    )
    alert(
        "job-waiting",
        f"A tuning job has waited for {settings.waiting_alert_hours} h to start",
        [_logged(guard, "job waiting")],
        "The job waits for the project's quota of concurrent tuning jobs. `runner queue` lists waiting jobs. "
        "To request more quota, set `concurrentTuningJobs` in the stack.",
        alert_strategy=_LOG_STRATEGY,
        severity="WARNING",
    )
    alert(
        "idle-guard-failed",
        "The idle guard failed: unused models may stay deployed, and nothing reports jobs",
        [
            {
                "display_name": "the schedule logged an error",
                "condition_matched_log": {
                    "filter": 'resource.type = "cloud_scheduler_job" AND '
                    f'resource.labels.job_id = "{guard}" AND severity >= ERROR'
                },
            }
        ],
        "The function's log shows the reason. `python -m runner.serving.idle_guard --dry-run` does the same run on "
        "your machine and changes nothing.",
        alert_strategy=_LOG_STRATEGY,
        severity="ERROR",
    )
    return channels


def _replicas(hours: int) -> dict[str, Any]:
    return {
        "display_name": f"replicas for {hours} h",
        "condition_threshold": {
            "filter": _REPLICAS,
            "comparison": "COMPARISON_GT",
            "threshold_value": 0,
            "duration": f"{hours * _SECONDS_AN_HOUR}s",
            "aggregations": [{"alignment_period": "300s", "per_series_aligner": "ALIGN_MAX"}],
        },
    }


def _no_predictions(hours: int) -> dict[str, Any]:
    return {
        "display_name": f"no predictions for {hours} h",
        "condition_absent": {
            "filter": _PREDICTIONS,
            "duration": f"{hours * _SECONDS_AN_HOUR}s",
            "aggregations": [{"alignment_period": "300s", "per_series_aligner": "ALIGN_SUM"}],
        },
    }


def _logged(guard: str, event: str) -> dict[str, Any]:
    """Return a condition that matches log entries of the guard's function; each job has one incident."""
    return {
        "display_name": event,
        "condition_matched_log": {
            "filter": f'resource.type = "cloud_run_revision" AND resource.labels.service_name = "{guard}" AND '
            f'jsonPayload.event = "{event}"',
            "label_extractors": {"job": "EXTRACT(jsonPayload.job)"},
        },
    }
