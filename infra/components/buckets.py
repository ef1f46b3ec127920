"""The buckets of a stack."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp import kms, storage

from infra.components import TYPE_PREFIX
from infra.naming import BUCKET_KINDS, bucket_name
from infra.settings import Settings

_SECONDS_A_DAY = 86_400
_ABANDONED_UPLOAD_DAYS = 7
KMS_ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"


def lifecycle_rules(kind: str, settings: Settings) -> list[storage.BucketLifecycleRuleArgs]:
    """Return the lifecycle of one kind of bucket.

    No rule deletes a live object, but under `tmp/` of the outputs: a checkpoint is what a job was paid for.
    """
    rules = [_rule("AbortIncompleteMultipartUpload", age=_ABANDONED_UPLOAD_DAYS)]
    if settings.noncurrent_version_days and kind != "images":
        rules.append(
            _rule("Delete", days_since_noncurrent_time=settings.noncurrent_version_days, with_state="ARCHIVED")
        )
    if kind == "outputs":
        rules.append(_rule("Delete", age=settings.scratch_days, matches_prefixes=["tmp/"], with_state="LIVE"))
    return rules


def _rule(action: str, **condition: Any) -> storage.BucketLifecycleRuleArgs:
    return storage.BucketLifecycleRuleArgs(
        action=storage.BucketLifecycleRuleActionArgs(type=action),
        condition=storage.BucketLifecycleRuleConditionArgs(**condition),
    )


class TuningBuckets(pulumi.ComponentResource):
    """Makes the buckets for datasets, images, outputs and the contract, in the region of the jobs.

    All are closed to the public and to object ACLs. Images are content-addressed by whoever writes them, so only they
    have no versions.
    """

    buckets: dict[str, storage.Bucket]

    def __init__(
        self,
        name: str,
        settings: Settings,
        project_number: pulumi.Output[str],
        agents: dict[str, pulumi.Output[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:TuningBuckets", name, None, opts)
        grants = self._grant_key(settings, project_number, agents)
        options = pulumi.ResourceOptions(parent=self, protect=settings.protect, depends_on=grants)
        encryption = storage.BucketEncryptionArgs(default_kms_key_name=settings.kms_key) if settings.kms_key else None
        self.buckets = {
            kind: storage.Bucket(
                kind,
                name=bucket_name(settings.name_prefix, kind),
                project=settings.project,
                location=settings.region,
                storage_class="STANDARD",
                uniform_bucket_level_access=True,
                public_access_prevention="enforced",
                versioning={"enabled": kind != "images"},
                # Always given: taking the block away would leave the bucket's policy as it is.
                soft_delete_policy={"retention_duration_seconds": settings.soft_delete_days * _SECONDS_A_DAY},
                lifecycle_rules=lifecycle_rules(kind, settings),
                encryption=encryption,
                labels={**settings.labels, "content": kind},
                # What the contract holds is made by this program, old versions included: nothing is lost with it.
                force_destroy=settings.force_destroy or (kind == "contract" and not settings.protect),
                opts=options,
            )
            for kind in BUCKET_KINDS
        }
        self.names = {kind: bucket.name for kind, bucket in self.buckets.items()}
        self.register_outputs({"names": self.names})

    def _grant_key(
        self, settings: Settings, project_number: pulumi.Output[str], agents: dict[str, pulumi.Output[str]]
    ) -> list[pulumi.Resource]:
        """Let Cloud Storage and both agents use the key; a bucket with a default key needs the first at once."""
        if settings.kms_key is None:
            return []
        storage_agent = pulumi.Output.concat("service-", project_number, "@gs-project-accounts.iam.gserviceaccount.com")
        return [
            kms.CryptoKeyIAMMember(
                f"key-{who}",
                crypto_key_id=settings.kms_key,
                role=KMS_ROLE,
                member=pulumi.Output.concat("serviceAccount:", email),
                opts=pulumi.ResourceOptions(parent=self),
            )
            for who, email in {"storage": storage_agent, **agents}.items()
        ]
