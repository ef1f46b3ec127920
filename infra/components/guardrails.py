"""Warnings and limits before a bill or an audit. Every part is off until it is configured, and only then loaded."""

from __future__ import annotations

from typing import Any

import pulumi

from infra.components import TYPE_PREFIX
from infra.naming import PRODUCT, marked
from infra.recorded import Recorded
from infra.settings.stack import Budget, Settings

BUDGET_THRESHOLDS = (0.5, 0.9, 1.0)
AUDITED_SERVICES = ("aiplatform.googleapis.com", "storage.googleapis.com")
AUDITED_LOGS = ("DATA_READ", "DATA_WRITE")

QUOTA_SERVICE = "aiplatform.googleapis.com"
QUOTA_ID = "GlobalConcurrentManagedOssModelTuningJobs"
"""`Global concurrent managed OSS model fine-tuning jobs per project`. The display name is the service's. This spelling
of the ID has not been confirmed against the service: if it is wrong, the service refuses the preference with 404."""


class Guardrails(pulumi.ComponentResource):
    """Budget, alerts, audit logs, quota of concurrent jobs, perimeter."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        project_number: pulumi.Output[str],
        recorded: Recorded,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:Guardrails", name, None, opts)
        self._options = pulumi.ResourceOptions(parent=self)
        channels: list[pulumi.Output[str]] = []
        if settings.notification_emails:
            from infra.components.alerts import declare_alerts

            channels = declare_alerts(settings, recorded, self._options)
        if settings.budget:
            self._budget(settings, settings.budget, project_number, channels)
        if settings.data_access_audit:
            self._audit(settings)
        if settings.concurrent_tuning_jobs:
            self._request_quota(settings)
        if settings.perimeter:
            self._join_perimeter(settings, settings.perimeter, project_number)
        self.register_outputs({})

    def _budget(
        self,
        settings: Settings,
        budget: Budget,
        project_number: pulumi.Output[str],
        channels: list[pulumi.Output[str]],
    ) -> None:
        from pulumi_gcp.billing.budget import Budget as GoogleBudget

        shares = [("CURRENT_SPEND", share) for share in BUDGET_THRESHOLDS] + [("FORECASTED_SPEND", 1.0)]
        # A variable, because the type checker cannot check typed dictionaries through variables.
        notify: Any = {"monitoring_notification_channels": channels}
        filtered: Any = {
            "projects": [pulumi.Output.concat("projects/", project_number)],
            "credit_types_treatment": "INCLUDE_ALL_CREDITS",
        }
        rules: Any = [{"threshold_percent": share, "spend_basis": basis} for basis, share in shares]
        GoogleBudget(
            "budget",
            billing_account=budget.billing_account,
            display_name=f"{PRODUCT}: {settings.name_prefix}",
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
        """Request a higher quota of concurrent jobs. Google decides; the preference can be changed but not deleted."""
        from pulumi_gcp.cloudquota.s_quota_preference import SQuotaPreference

        SQuotaPreference(
            "concurrent-tuning-jobs",
            name="open-model-tuning-concurrent-jobs",
            parent=f"projects/{settings.project}",
            service=QUOTA_SERVICE,
            quota_id=QUOTA_ID,
            contact_email=settings.notification_emails[0],
            justification=marked("Concurrent managed tuning of open models", settings.name_prefix),
            quota_config={"preferred_value": str(settings.concurrent_tuning_jobs)},
            opts=self._options,
        )

    def _join_perimeter(self, settings: Settings, perimeter: str, project_number: pulumi.Output[str]) -> None:
        """Add the project to a perimeter that somebody else owns; first as a dry run, which only logs."""
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
