"""Buckets and objects."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pulumi

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType
from infra.embedded.rest import EmbeddedError, RequestError
from infra.naming import REGIONAL_KINDS, STACK_LABEL

_CONDITIONS = {"matchesPrefixes": "matchesPrefix", "matchesSuffixes": "matchesSuffix"}


class BucketType(ResourceType):
    """A bucket."""

    token = "gcp:storage/bucket:Bucket"  # noqa: S105 - a type token
    labelled = True
    fixed = frozenset({"name", "location", "project"})

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return the bucket as the JSON API spells it."""
        body: dict[str, Any] = {
            "name": inputs["name"],
            "location": inputs["location"],
            "storageClass": inputs.get("storageClass", "STANDARD"),
            "iamConfiguration": {
                "publicAccessPrevention": inputs.get("publicAccessPrevention", "inherited"),
                "uniformBucketLevelAccess": {"enabled": bool(inputs.get("uniformBucketLevelAccess"))},
            },
            "versioning": {"enabled": bool(inputs.get("versioning", {}).get("enabled"))},
            "lifecycle": {"rule": [_rule(rule) for rule in inputs.get("lifecycleRules", [])]},
            "labels": inputs.get("labels", {}),
        }
        if "softDeletePolicy" in inputs:
            seconds = inputs["softDeletePolicy"]["retentionDurationSeconds"]
            body["softDeletePolicy"] = {"retentionDurationSeconds": str(seconds)}
        if inputs.get("encryption"):
            body["encryption"] = {"defaultKmsKeyName": inputs["encryption"]["defaultKmsKeyName"]}
        return body

    def named(self, inputs: Inputs) -> str:
        """Return its ID, which is its name."""
        return str(inputs["name"])

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Create it. Raises RequestError with 409 if its name is taken."""
        context.rest.call("storage", "POST", "b", self.body(inputs), params={"project": inputs["project"]})
        made = self.read(context, inputs["name"], inputs)
        if made is None:
            raise EmbeddedError(f"bucket {inputs['name']} was created and is not there")
        return made

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Return the project's own bucket with that name: bucket names are unique worldwide."""
        live = self._anybody(context, inputs)
        if live is None:
            return None
        number = context.rest.call("projects", "GET", f"projects/{inputs['project']}")["projectNumber"]
        return live if str(live.body.get("projectNumber")) == str(number) else None

    def claim(self, context: Context, inputs: Inputs) -> str:
        """Add buckets of other projects, which `find` omits: they cannot be adopted."""
        if self._anybody(context, inputs) is None or self.find(context, inputs):
            return super().claim(context, inputs)
        return f"bucket {inputs['name']} belongs to another project"

    def _anybody(self, context: Context, inputs: Inputs) -> Live | None:
        """Return the bucket with that name, without its body if only its owner can see it."""
        try:
            return self.read(context, inputs["name"], inputs)
        except RequestError as error:
            if error.http != httpx.codes.FORBIDDEN:
                raise
            return Live(inputs["name"], {})

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Return whether the stack created it for the same use, by its labels. Older versions wrote no stack label."""
        labels, wanted = live.body.get("labels") or {}, inputs.get("labels") or {}
        same = all(labels.get(key) == wanted.get(key) for key in ("managed-by", "content"))
        return same and labels.get(STACK_LABEL) in {None, wanted.get(STACK_LABEL)}

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return it with its location as the program spells it; the service returns capitals."""
        body = context.rest.find("storage", f"b/{id_}")
        if body is None:
            return None
        return Live(id_, {**body, "location": str(body.get("location", "")).lower()})

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Patch what differs; labels that the program no longer has are removed one by one."""
        context.rest.call("storage", "PATCH", f"b/{live.id}", changes)
        return self.read(context, live.id, inputs) or live

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Delete it; empty it first if the program requested this. Objects in `ownObjects` are deleted in any case."""
        if context.rest.find("storage", f"b/{id_}") is None:
            return True
        if inputs.get("forceDestroy"):
            _empty(context, id_)
        elif inputs.get("ownObjects"):
            _empty(context, id_, only=frozenset(inputs["ownObjects"]))
        try:
            context.rest.call("storage", "DELETE", f"b/{id_}")
        except RequestError as error:
            if error.http == httpx.codes.CONFLICT:
                raise EmbeddedError(
                    f"bucket {id_} is not deleted, because it contains objects",
                    hint="to delete them too, set open-model-tuning:forceDestroy to true, apply, then destroy",
                ) from error
            raise
        return True

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Add the addresses."""
        return {
            **inputs,
            "url": f"gs://{live.id}",
            "selfLink": live.body.get("selfLink", ""),
            "projectNumber": int(live.body.get("projectNumber", 0)),
        }


def _rule(rule: Inputs) -> dict[str, Any]:
    condition: dict[str, Any] = {}
    for name, value in rule.get("condition", {}).items():
        if name == "withState":
            if value in {"LIVE", "ARCHIVED"}:
                condition["isLive"] = value == "LIVE"
        else:
            condition[_CONDITIONS.get(name, name)] = value
    return {"action": rule["action"], "condition": condition}


def _empty(context: Context, bucket: str, *, only: frozenset[str] | None = None) -> None:
    for item in context.rest.items("storage", f"b/{bucket}/o", "items", params={"versions": "true"}):
        if only is None or item["name"] in only:
            path = f"b/{bucket}/o/{quote(item['name'], safe='')}"
            context.rest.call("storage", "DELETE", path, params={"generation": str(item["generation"])})


def described(archive: pulumi.AssetArchive) -> dict[str, dict[str, str]]:
    """Return an archive in a form that inputs can hold: each file by its path, or by its text."""
    files = {}
    for name, asset in archive.assets.items():
        if isinstance(asset, pulumi.FileAsset):
            files[name] = {"path": str(asset.path)}
        elif isinstance(asset, pulumi.StringAsset):
            files[name] = {"text": str(asset.text)}
        else:
            raise EmbeddedError(f"{name} of an archive is neither a file nor a text")
    return files


def _content(inputs: Inputs) -> bytes:
    """Return an object's content: its text, or an archive, which has the same bytes for the same files."""
    if "content" in inputs:
        return str(inputs["content"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(inputs["source"].items()):
            content = Path(file["path"]).read_bytes() if "path" in file else file["text"].encode()
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _whose(document: Any) -> Any:
    """Return what identifies the stack of an environment document."""
    return document["project"], [document["buckets"][kind] for kind in REGIONAL_KINDS]


class ObjectType(ResourceType):
    """An object whose content the program holds."""

    token = "gcp:storage/bucketObject:BucketObject"  # noqa: S105 - a type token
    fixed = frozenset({"bucket", "name"})
    refused = False

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return its metadata; a checksum represents the content."""
        # MD5 is the checksum that the API offers, not a protection.
        digest = hashlib.md5(_content(inputs), usedforsecurity=False).digest()
        body = {"name": inputs["name"], "md5Hash": base64.b64encode(digest).decode()}
        for key in ("contentType", "cacheControl"):
            if inputs.get(key):
                body[key] = inputs[key]
        return body

    def claim(self, context: Context, inputs: Inputs) -> str:
        """Report a document of another stack. An archive is named after its content, so it is always the same."""
        if "content" not in inputs or (live := self.read(context, "", inputs)) is None:
            return ""
        try:
            there = json.loads(context.rest.download(inputs["bucket"], quote(inputs["name"], safe="")))
            same = _whose(there) == _whose(json.loads(inputs["content"]))
        except (ValueError, KeyError, TypeError):
            same = False
        return "" if same else f"gs://{inputs['bucket']}/{live.body['name']} exists, and is not of this stack"

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Upload it."""
        metadata = {key: value for key, value in self.body(inputs).items() if key != "md5Hash"}
        answer = context.rest.upload(inputs["bucket"], metadata, _content(inputs))
        return Live(self._id(inputs), answer)

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return its metadata."""
        body = context.rest.find("storage", f"b/{inputs['bucket']}/o/{quote(inputs['name'], safe='')}")
        return None if body is None else Live(self._id(inputs), body)

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Delete it."""
        try:
            context.rest.call("storage", "DELETE", f"b/{inputs['bucket']}/o/{quote(inputs['name'], safe='')}")
        except RequestError as error:
            if error.http != httpx.codes.NOT_FOUND:
                raise
        return True

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Add the checksum and the generation."""
        return {**inputs, "md5hash": live.body.get("md5Hash", ""), "generation": int(live.body.get("generation", 0))}

    def _id(self, inputs: Inputs) -> str:
        return f"{inputs['bucket']}-{inputs['name']}"
