"""The service accounts of the parts of a stack, and the stack's own roles for them."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_gcp.projects.iam_custom_role import IAMCustomRole
from pulumi_gcp.serviceaccount.account import Account

from infra.components.grants import Grants
from infra.naming import marked
from infra.settings.stack import Settings


class Identities:
    """Creates the accounts of one component.

    Args:
        settings: settings of the stack.
        grants: creates the permissions.
        parent: the component.
    """

    def __init__(self, settings: Settings, grants: Grants, parent: pulumi.Resource) -> None:
        self._settings = settings
        self._project, self._prefix = settings.project, settings.name_prefix
        self._grants = grants
        self._options = pulumi.ResourceOptions(parent=parent)

    def account(self, name: str, account_id: str, title: str, description: str, roles: Sequence[str] = ()) -> Account:
        """Create an account, and grant it Google's predefined roles in the project."""
        account = Account(
            name,
            project=self._project,
            account_id=account_id,
            display_name=marked(title, self._prefix),
            description=description,
            opts=self._options,
        )
        for role in roles:
            self._grants.on_project(name, self._project, role, member_of(account), self._options)
        return account

    def own_role(
        self,
        who: str,
        account: Account,
        role_id: str,
        title: str,
        description: str,
        permissions: Sequence[str],
        grant: str,
    ) -> None:
        """Create a role with these permissions and grant it in the project; `grant` names its purpose."""
        role = IAMCustomRole(
            f"{who}-role",
            project=self._project,
            role_id=self._settings.role_id(role_id),
            title=marked(title, self._prefix),
            description=description,
            stage="GA",
            permissions=list(permissions),
            opts=self._options,
        )
        self._grants.on_project(who, self._project, role.name, member_of(account), self._options, name=f"{who}-{grant}")


def member_of(account: Account) -> pulumi.Output[str]:
    """Return an account in the form that policies use."""
    return pulumi.Output.concat("serviceAccount:", account.email)
