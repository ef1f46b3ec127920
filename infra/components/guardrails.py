"""What tells you before a bill or an auditor does. Every part is off until it is configured, and then loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi

from infra.components import TYPE_PREFIX
from infra.settings import Budget, Settings

if TYPE_CHECKING:
    from pulumi_gcp.monitoring.notification_channel import NotificationChannel

BUDGET_THRESHOLDS = (0.5, 0.9, 1.0)
AUDITED_SERVICES = ("aiplatform.googleapis.com", "storage.googleapis.com")
AUDITED_LOGS = ("DATA_READ", "DATA_WRITE")

QUOTA_SERVICE = "aiplatform.googleapis.com"
QUOTA_ID = "GlobalConcurrentManagedOssModelTuningJobs"
"""`Global concurrent managed OSS model fine-tuning jobs per project`. The display name is the service's, this spelling
of the id has not been confirmed against it: the preference is refused with 404 if it is another."""

_REPLICAS = (
    'resource.type = "aiplatform.googleapis.com/Endpoint" AND '
    'metric.type = "aiplatform.googleapis.com/prediction/online/replicas"'
)
_PREDICTIONS = (
    'resource.type = "aiplatform.googleapis.com/Endpoint" AND '
    'metric.type = "aiplatform.googleapis.com/prediction/online/prediction_count"'
)
_SECONDS_AN_HOUR = 3600


class Guardrails(pulumi.ComponentResource):
    """Budget, alerts on models that stay deployed or idle, audit logs, quota of concurrent jobs, perimeter."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        project_number: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:Guardrails", name, None, opts)
        self._options = pulumi.ResourceOptions(parent=self)
        channels = self._channels(settings)
        if channels:
            self._alert_on_serving(settings, channels)
            self._alert_on_idleness(settings, channels)
        if settings.budget:
            self._budget(settings, settings.budget, project_number, channels)
        if settings.data_access_audit:
            self._audit(settings)
        if settings.concurrent_tuning_jobs:
            self._request_quota(settings)
        if settings.perimeter:
            self._join_perimeter(settings, settings.perimeter, project_number)
        self.register_outputs({})

    def _channels(self, settings: Settings) -> list[NotificationChannel]:
        if not settings.notification_emails:
            return []
        from pulumi_gcp.monitoring.notification_channel import NotificationChannel

        return [
            NotificationChannel(
                f"email-{index}",
                project=settings.project,
                display_name=f"Open model tuning: {email}",
                type="email",
                labels={"email_address": email},
                opts=self._options,
            )
            for index, email in enumerate(settings.notification_emails)
        ]

    def _alert_on_serving(self, settings: Settings, channels: list[NotificationChannel]) -> None:
        """Say that a model has been deployed for hours: its machines are billed whether or not anybody asks it."""
        from pulumi_gcp.monitoring.alert_policy import AlertPolicy

        hours = settings.serving_alert_hours
        AlertPolicy(
            "model-still-deployed",
            project=settings.project,
            display_name=f"A model has been deployed for {hours} h ({settings.name_prefix})",
            combiner="OR",
            conditions=[
                {
                    "display_name": f"replicas for {hours} h",
                    "condition_threshold": {
                        "filter": _REPLICAS,
                        "comparison": "COMPARISON_GT",
                        "threshold_value": 0,
                        "duration": f"{hours * _SECONDS_AN_HOUR}s",
                        "aggregations": [{"alignment_period": "300s", "per_series_aligner": "ALIGN_MAX"}],
                    },
                }
            ],
            documentation={
                "content": "`runner endpoints ls` shows it; `runner endpoints undeploy` ends its bill.",
                "mime_type": "text/markdown",
            },
            notification_channels=[channel.name for channel in channels],
            user_labels=settings.labels or None,
            opts=self._options,
        )

    def _alert_on_idleness(self, settings: Settings, channels: list[NotificationChannel]) -> None:
        """Say that an endpoint has replicas and answers nothing."""
        from pulumi_gcp.monitoring.alert_policy import AlertPolicy

        hours = settings.idle_alert_hours
        AlertPolicy(
            "endpoint-idle",
            project=settings.project,
            display_name=f"An endpoint is billed and has answered nothing for {hours} h ({settings.name_prefix})",
            # Both of one endpoint: another one's traffic says nothing about it.
            combiner="AND_WITH_MATCHING_RESOURCE",
            conditions=[
                {
                    "display_name": f"replicas for {hours} h",
                    "condition_threshold": {
                        "filter": _REPLICAS,
                        "comparison": "COMPARISON_GT",
                        "threshold_value": 0,
                        "duration": f"{hours * _SECONDS_AN_HOUR}s",
                        "aggregations": [{"alignment_period": "300s", "per_series_aligner": "ALIGN_MAX"}],
                    },
                },
                {
                    "display_name": f"no predictions for {hours} h",
                    "condition_absent": {
                        "filter": _PREDICTIONS,
                        "duration": f"{hours * _SECONDS_AN_HOUR}s",
                        "aggregations": [{"alignment_period": "300s", "per_series_aligner": "ALIGN_SUM"}],
                    },
                },
            ],
            documentation={
                "content": "`runner endpoints undeploy` ends its bill; the idle guard does it when its lease is over.",
                "mime_type": "text/markdown",
            },
            notification_channels=[channel.name for channel in channels],
            user_labels=settings.labels or None,
            opts=self._options,
        )

    def _budget(
        self,
        settings: Settings,
        budget: Budget,
        project_number: pulumi.Output[str],
        channels: list[NotificationChannel],
    ) -> None:
        from pulumi_gcp.billing.budget import Budget as GoogleBudget

        shares = [("CURRENT_SPEND", share) for share in BUDGET_THRESHOLDS] + [("FORECASTED_SPEND", 1.0)]
        # Typed dictionaries do not see through variables.
        notify: Any = {"monitoring_notification_channels": [item.name for item in channels]}
        filtered: Any = {
            "projects": [pulumi.Output.concat("projects/", project_number)],
            "credit_types_treatment": "INCLUDE_ALL_CREDITS",
        }
        rules: Any = [{"threshold_percent": share, "spend_basis": basis} for basis, share in shares]
        GoogleBudget(
            "budget",
            billing_account=budget.billing_account,
            display_name=f"Open model tuning: {settings.name_prefix}",
            amount={"specified_amount": {"currency_code": budget.currency, "units": str(budget.amount)}},
            budget_filter=filtered,
            threshold_rules=rules,
            all_updates_rule=notify if channels else None,
            opts=self._options,
        )

    def _audit(self, settings: Settings) -> None:
        from pulumi_gcp.projects.iam_audit_config import IAMAuditConfig

        for service in AUDITED_SERVICES:
            IAMAuditConfig(
                f"audit-{service.removesuffix('.googleapis.com')}",
                project=settings.project,
                service=service,
                audit_log_configs=[{"log_type": log} for log in AUDITED_LOGS],
                opts=self._options,
            )

    def _request_quota(self, settings: Settings) -> None:
        """Ask for more concurrent jobs. Google decides; the preference cannot be deleted, only changed."""
        from pulumi_gcp.cloudquota.s_quota_preference import SQuotaPreference

        SQuotaPreference(
            "concurrent-tuning-jobs",
            name="open-model-tuning-concurrent-jobs",
            parent=f"projects/{settings.project}",
            service=QUOTA_SERVICE,
            quota_id=QUOTA_ID,
            contact_email=settings.notification_emails[0],
            justification="Concurrent managed tuning of open models",
            quota_config={"preferred_value": str(settings.concurrent_tuning_jobs)},
            opts=self._options,
        )

    def _join_perimeter(self, settings: Settings, perimeter: str, project_number: pulumi.Output[str]) -> None:
        """Put the project into a perimeter that somebody else owns; at first as a dry run, which only logs."""
        resource = pulumi.Output.concat("projects/", project_number)
        if settings.perimeter_dry_run:
            from pulumi_gcp.accesscontextmanager.service_perimeter_dry_run_resource import (
                ServicePerimeterDryRunResource,
            )

            ServicePerimeterDryRunResource(
                "perimeter-dry-run", perimeter_name=perimeter, resource=resource, opts=self._options
            )
        else:
            from pulumi_gcp.accesscontextmanager.service_perimeter_resource import ServicePerimeterResource

            ServicePerimeterResource("perimeter", perimeter_name=perimeter, resource=resource, opts=self._options)
