"""The buckets of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi_gcp.storage.bucket import Bucket

from infra.answers import sentence
from infra.components import TYPE_PREFIX
from infra.components.grants import Grants
from infra.components.service_agents import ServiceAgents
from infra.consistency import ask
from infra.held_data import BUCKET, imported
from infra.naming import SCRATCH_PREFIX, STACK_LABEL, label_of
from infra.recorded import Recorded
from infra.settings.regions import BucketSpec, Stamp
from infra.settings.stack import Settings
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from pulumi_gcp.projects.service import Service

_SECONDS_A_DAY = 86_400
_ABANDONED_UPLOAD_DAYS = 7
KMS_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackBucket:
    """One bucket of the stack, created by it or attached."""

    kind: str
    """One of `infra.naming.BUCKET_KINDS`, or `extra` for a bucket that only the settings name."""
    id: str
    """Its name in the settings."""
    name: pulumi.Output[str]
    """Its name after it has been created."""

    @property
    def of_jobs(self) -> bool:
        """Return whether jobs read or write in it, so that both service agents need access."""
        return self.kind != "contract"


def lifecycle_rules(kind: str, settings: Settings) -> list[dict[str, Any]]:
    """Return the lifecycle rules for one kind of bucket.

    No rule deletes live objects, except under `tmp/` of the datasets: jobs cost money for their checkpoints, and
    a rule cannot exclude the objects under `final/` if it does not know their prefixes.
    """
    rules = [_rule("AbortIncompleteMultipartUpload", age=_ABANDONED_UPLOAD_DAYS)]
    if settings.noncurrent_version_days and kind != "images":
        rules.append(
            _rule("Delete", days_since_noncurrent_time=settings.noncurrent_version_days, with_state="ARCHIVED")
        )
    if kind == "datasets":
        rules.append(_rule("Delete", age=settings.scratch_days, matches_prefixes=[SCRATCH_PREFIX], with_state="LIVE"))
    return rules


def _rule(action: str, **condition: Any) -> dict[str, Any]:
    return {"action": {"type": action}, "condition": condition}


class TuningBuckets(pulumi.ComponentResource):
    """Creates the buckets for datasets, images and outputs in each region, and one contract bucket in the home region.

    All are closed to the public and to object ACLs. Image objects are named after their content, so only the images
    buckets have no versions. An attached bucket is not changed, but it is looked up, so that a wrong name or region is
    found now and not by a job.
    """

    buckets: list[StackBucket]

    def __init__(
        self,
        name: str,
        settings: Settings,
        recorded: Recorded,
        agents: ServiceAgents,
        permissions: Grants,
        services: list[Service],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:TuningBuckets", name, None, opts)
        self._storage_agent: pulumi.Output[str] | None = None
        self._recorded = recorded
        self._imported = imported(settings, recorded)
        self._by_region: dict[str, dict[str, pulumi.Output[str]]] = {}
        self.buckets = []
        for stamp in settings.stamps:
            grants = self._grant_key(settings, stamp, agents, permissions, services)
            made = {spec: self._bucket(settings, stamp, spec, grants) for spec in stamp.buckets}
            self._by_region[stamp.region] = {spec.kind: name for spec, name in made.items()}
            self.buckets += [StackBucket(kind=spec.kind, id=spec.name, name=name) for spec, name in made.items()]
        self.buckets += [
            StackBucket(kind="extra", id=extra, name=pulumi.Output.from_input(extra))
            for extra in settings.extra_data_buckets
        ]
        self.register_outputs({"names": self._by_region})

    def names(self, region: str) -> dict[str, pulumi.Output[str]]:
        """Return the names of a region's buckets by kind."""
        return self._by_region[region]

    def _bucket(
        self, settings: Settings, stamp: Stamp, spec: BucketSpec, grants: list[pulumi.Resource]
    ) -> pulumi.Output[str]:
        if spec.mode == "attach":
            return self._attached(stamp, spec)
        options = pulumi.ResourceOptions(
            parent=self,
            # An imported bucket holds data that this stack did not create, even if the setting no longer says so.
            protect=settings.protect or spec.name in self._imported,
            aliases=list(self._recorded.aliases(BUCKET, f"{spec.kind}{stamp.suffix}", name=spec.name)),
            retain_on_delete=settings.retain,
            depends_on=grants,
            import_=spec.name if spec.mode == "import" else None,
        )
        rules: Any = lifecycle_rules(spec.kind, settings)
        bucket = Bucket(
            f"{spec.kind}{stamp.suffix}",
            name=spec.name,
            project=settings.project,
            location=stamp.region,
            storage_class="STANDARD",
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": spec.kind != "images"},
            # Always set: if the block were omitted, the bucket's policy would stay as it is.
            soft_delete_policy={"retention_duration_seconds": settings.soft_delete_days * _SECONDS_A_DAY},
            lifecycle_rules=rules,
            encryption={"default_kms_key_name": stamp.kms_key} if stamp.kms_key else None,
            labels={**settings.labels, "content": spec.kind, STACK_LABEL: label_of(pulumi.get_stack())},
            # This program creates everything in the contract bucket, including old versions: no data is lost with it.
            force_destroy=spec.name not in self._imported
            and (settings.force_destroy or (spec.kind == "contract" and not settings.protect)),
            opts=options,
        )
        name: pulumi.Output[str] = bucket.name
        return name

    def _attached(self, stamp: Stamp, spec: BucketSpec) -> pulumi.Output[str]:
        from pulumi_gcp.storage.get_bucket import get_bucket

        try:
            location = get_bucket(name=spec.name, opts=pulumi.InvokeOptions(parent=self)).location.lower()
        except Exception as error:  # the SDK has no class for a provider's response
            problem = f"gs://{spec.name} is to be attached, and cannot be seen: {sentence(str(error))}"
            hint = "create it first, or set another name in `buckets`"
            raise ConfigurationError(problem, hint=hint) from error
        if location != stamp.region:
            raise ConfigurationError(
                f"bucket {spec.name} is in {location}, and jobs in {stamp.region} need it there",
                hint="attach a bucket of that region",
            )
        return pulumi.Output.from_input(spec.name)

    def _grant_key(
        self,
        settings: Settings,
        stamp: Stamp,
        agents: ServiceAgents,
        permissions: Grants,
        services: list[Service],
    ) -> list[pulumi.Resource]:
        """Let Cloud Storage and both agents use the key; creating a bucket with a default key requires the former."""
        if stamp.kms_key is None:
            return []
        if self._storage_agent is None:
            # Requested instead of derived from the project number: the agent exists only after a request for it.
            asked = {"project": settings.project}
            agent = ask("gcp:storage/getProjectServiceAccount:getProjectServiceAccount", asked, self, services)
            self._storage_agent = agent.apply(lambda found: str(found["emailAddress"]))
        return [
            permissions.on_key(
                who,
                stamp.kms_key,
                KMS_ROLE,
                pulumi.Output.concat("serviceAccount:", email),
                pulumi.ResourceOptions(parent=self, depends_on=agents.generated),
            )
            for who, email in {"storage": self._storage_agent, **agents.granted}.items()
        ]
