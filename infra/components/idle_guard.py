"""Undeploys models that are idle or whose lease has ended, even if nobody's computer is on."""

from __future__ import annotations

import hashlib

import pulumi
from pulumi_gcp.cloudfunctionsv2.function import Function
from pulumi_gcp.cloudrunv2.service_iam_member import ServiceIamMember
from pulumi_gcp.cloudscheduler.job import Job
from pulumi_gcp.serviceaccount.account import Account
from pulumi_gcp.storage.bucket_object import BucketObject

from infra.components import TYPE_PREFIX
from infra.components.grants import Grants
from infra.components.identities import Identities, member_of
from infra.idle_guard.source import files, requirements
from infra.naming import idle_guard_name
from infra.settings.stack import Settings

_TITLE = "Open model tuning idle guard"
GUARD_ROLE_ID = "tuningIdleGuard"
GUARD_PERMISSIONS = (
    "aiplatform.endpoints.delete",
    "aiplatform.endpoints.get",
    "aiplatform.endpoints.list",
    "aiplatform.endpoints.undeploy",
    "aiplatform.models.delete",
    "aiplatform.models.get",
    "aiplatform.models.list",
    "aiplatform.tuningJobs.list",
    "monitoring.timeSeries.list",
)
"""The methods that a pass calls, and no others: no predefined role undeploys without also deploying and tuning."""
BUILD_ROLES = ("roles/cloudbuild.builds.builder",)
RUNTIME = "python312"
TIMEOUT_SECONDS = 540


class IdleGuard(pulumi.ComponentResource):
    """A small function, its service account, and the schedule that calls it.

    The function is built from this repository's own code. It undeploys only what the runner deployed with a lease, so a
    stack without deployments costs a few requests per hour. Alerts match its log entries about failed or waiting jobs.
    There are three accounts: one builds, one works, one calls.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        contract: pulumi.Output[str],
        grants: Grants,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:IdleGuard", name, None, opts)
        self._settings = settings
        self._options = pulumi.ResourceOptions(parent=self)
        identities = Identities(settings, grants, self)

        def account(role: str, description: str, roles: tuple[str, ...] = ()) -> Account:
            title = f"{_TITLE}: {role}"
            return identities.account(
                f"idle-{role}", settings.account_id(f"tuning-idle-{role}"), title, description, roles
            )

        build = account("build", "Builds the idle guard.", BUILD_ROLES)
        work = account("guard", "Takes down models that are no longer used.")
        call = account("caller", "Calls the idle guard on its schedule.")
        said = "Takes down models; reads jobs and the time of each model's last request."
        identities.own_role("idle-guard", work, GUARD_ROLE_ID, _TITLE, said, GUARD_PERMISSIONS, "work")
        function = self._function(contract, build, work)
        invoker = ServiceIamMember(
            "idle-guard-invoker",
            project=settings.project,
            location=settings.region,
            name=function.name,
            role="roles/run.invoker",
            member=member_of(call),
            opts=self._options,
        )
        Job(
            "idle-guard-schedule",
            project=settings.project,
            region=settings.region,
            name=idle_guard_name(settings.name_prefix),
            description="Takes down models that are no longer used.",
            schedule=f"*/{settings.idle_guard_minutes} * * * *" if settings.idle_guard_minutes < 60 else "0 * * * *",
            time_zone="Etc/UTC",
            attempt_deadline=f"{TIMEOUT_SECONDS}s",
            http_target={
                "uri": function.url,
                "http_method": "POST",
                "oidc_token": {"service_account_email": call.email, "audience": function.url},
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[invoker]),
        )
        self.register_outputs({"function": function.name})

    def _function(self, contract: pulumi.Output[str], build: Account, work: Account) -> Function:
        settings = self._settings
        parts = files()
        contents = {path: file.read_bytes() for path, file in parts.items()}
        wanted = requirements()
        digest = hashlib.sha256(wanted.encode())
        for path, content in contents.items():
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        source = BucketObject(
            "idle-guard-source",
            bucket=contract,
            # New content needs a new object name: a function does not look for new versions of the same name.
            name=f"functions/idle-guard-{digest.hexdigest()[:16]}.zip",
            source=pulumi.AssetArchive(
                {
                    "requirements.txt": pulumi.StringAsset(wanted),
                    **{path: pulumi.FileAsset(file) for path, file in parts.items()},
                }
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return Function(
            "idle-guard",
            project=settings.project,
            location=settings.region,
            name=idle_guard_name(settings.name_prefix),
            description="Takes down models that are no longer used.",
            labels=settings.labels or None,
            build_config={
                "runtime": RUNTIME,
                "entry_point": "main",
                "service_account": build.name,
                "source": {"storage_source": {"bucket": contract, "object": source.name}},
            },
            service_config={
                "service_account_email": work.email,
                "available_memory": "512Mi",
                "max_instance_count": 1,
                "timeout_seconds": TIMEOUT_SECONDS,
                "environment_variables": {
                    "RUNNER_PROJECT": settings.project,
                    "RUNNER_STATE_DIR": "/tmp",  # noqa: S108 - the only place where a function may write
                    "RUNNER_REGIONS": ",".join(stamp.region for stamp in settings.stamps),
                    # Two passes see the end of each job, in case one pass is lost.
                    "RUNNER_JOBS_ENDED_MINUTES": str(2 * settings.idle_guard_minutes),
                    "RUNNER_JOBS_WAITING_HOURS": str(settings.waiting_alert_hours),
                },
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
