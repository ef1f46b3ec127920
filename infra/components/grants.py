"""Single permissions: the program creates grants only here.

A grant is named after its content (who, on what, which role), so that changes of a list, of a region's position or of a
bucket's part in the stack never give its name to another grant. The engine creates before it deletes: if a grant got a
new name, the deletion of the old name would revoke it. For the same reason, a grant that two parts of the program need
is created once, and a grant that the state has under an older name keeps its record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi

from infra.recorded import Recorded

BUCKET = "gcp:storage/bucketIAMMember:BucketIAMMember"
PROJECT = "gcp:projects/iAMMember:IAMMember"
ACCOUNT = "gcp:serviceaccount/iAMMember:IAMMember"
KEY = "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"
_OLD_KEY_NAMES = {"storage": "key-storage", "aiplatform": "key-aiplatform", "tuning": "key-tuning"}


class Grants:
    """Creates grants, each once."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._made: dict[tuple[str, str], pulumi.Resource] = {}

    def on_bucket(
        self,
        who: str,
        bucket: str,
        role: str,
        member: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
        *,
        after: pulumi.Input[str] | None = None,
        condition: dict[str, str] | None = None,
    ) -> pulumi.Resource:
        """Grant a role on a bucket.

        Args:
            who: name of the principal in the program.
            bucket: name of the bucket.
            role: as `roles/storage.objectUser`.
            member: the principal.
            opts: parent and dependencies.
            after: the bucket's name as an output of the resource that creates it.
            condition: `title`, `description` and `expression`.
        """
        from pulumi_gcp.storage.bucket_iam_member import BucketIAMMember

        title = condition["title"] if condition else ""
        name = "/".join(filter(None, (who, bucket, short(role), title)))

        def make(options: pulumi.ResourceOptions) -> pulumi.Resource:
            # A dictionary, because the class of arguments would load all of `pulumi_gcp.storage`.
            conditioned: Any = condition
            return BucketIAMMember(
                name, bucket=after or bucket, role=role, member=member, condition=conditioned, opts=options
            )

        old = self._older(BUCKET, name, f"{who}-", bucket=bucket, role=role, condition=condition)
        return self._once(BUCKET, name, make, opts, old)

    def on_project(
        self, who: str, project: str, role: pulumi.Input[str], member: pulumi.Input[str], opts: pulumi.ResourceOptions,
        *, name: str = "",
    ) -> pulumi.Resource:  # fmt: skip
        """Grant a role in the project. `name` names the grant if the role is one of the stack's own."""
        from pulumi_gcp.projects.iam_member import IAMMember

        chosen = name or f"{who}-{short(str(role))}"
        return self._once(
            PROJECT,
            chosen,
            lambda options: IAMMember(chosen, project=project, role=role, member=member, opts=options),
            opts,
            [],
        )

    def on_account(
        self, name: str, account: pulumi.Input[str], role: str, member: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> pulumi.Resource:
        """Let a principal use an account of the stack. `name` names the principal."""
        from pulumi_gcp.serviceaccount.iam_member import IAMMember

        old = self._recorded.aliases(ACCOUNT, name, role=role, member=member) if isinstance(member, str) else []
        return self._once(
            ACCOUNT,
            name,
            lambda options: IAMMember(name, service_account_id=account, role=role, member=member, opts=options),
            opts,
            old,
        )

    def on_key(
        self, who: str, key: str, role: str, member: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> pulumi.Resource:
        """Let a principal use a key of Cloud KMS."""
        from pulumi_gcp.kms.crypto_key_iam_member import CryptoKeyIAMMember

        name = f"{who}/{key}/{short(role)}"
        prefix = _OLD_KEY_NAMES.get(who, f"{who}-")
        return self._once(
            KEY,
            name,
            lambda options: CryptoKeyIAMMember(name, crypto_key_id=key, role=role, member=member, opts=options),
            opts,
            self._older(KEY, name, prefix, cryptoKeyId=key, role=role),
        )

    def _older(self, token: str, name: str, prefix: str, **same: Any) -> list[pulumi.Alias]:
        """Return the name of a principal's grant from when names included the bucket's part in the stack."""
        if (token, name) in self._recorded.resources:
            return []
        mine = {key: value for key, value in self._recorded.resources.items() if key[1].startswith(prefix)}
        return Recorded(mine).aliases(token, name, **same)

    def _once(
        self,
        token: str,
        name: str,
        make: Callable[[pulumi.ResourceOptions], pulumi.Resource],
        opts: pulumi.ResourceOptions,
        aliases: list[pulumi.Alias],
    ) -> pulumi.Resource:
        if (token, name) not in self._made:
            named = pulumi.ResourceOptions(aliases=list(aliases))
            self._made[(token, name)] = make(pulumi.ResourceOptions.merge(opts, named))
        return self._made[(token, name)]


def short(role: str) -> str:
    """Return a role in the form that resource names use."""
    return role.removeprefix("roles/").replace(".", "-")
