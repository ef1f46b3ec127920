"""Make `runner/emulator/definitions/data/` again from Google's discovery documents: `python3 dev.py definitions`.

The documents come with PyPI's google-api-python-client; the numbers of enums, which they lack, with
google-cloud-aiplatform. Both are development dependencies. What is left is methods, paths, parameters and messages,
without a word of prose, and of the messages only those that a method served here can send or receive.

A file holds one version of one API:

    revision   the discovery document's own, a date
    package    of its protobuf messages, for the types that errors name
    methods    served here, by id: verb, parameters of the query, message of the body, where the body is bound,
               message of the answer
    paths      of every method that Google has, a tree of segments whose leaves are verbs
    messages   fields and their types; `name` where it is not the key; fields of which only one may be given
    enums      values, in order of their numbers, or with their numbers where these are not 0, 1, 2, …

A type is `string`, `bool`, `int32`, `uint32`, `int64`, `uint64`, `float`, `double`, `bytes`, `time`, `duration`,
`mask`, `any`, `@Message` or `#enum`; before it stand `[` for a list and `{` for a map, after it `-` for a field that
only the service sets, `!` for a required one, `?` for one whose default says something when it is given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, resources
from typing import Any

from runner.emulator import services
from runner.emulator.definitions.documents import DATA
from tests.emulator.definitions import undocumented

SERVED = {
    "accesscontextmanager.v1": "google.identity.accesscontextmanager.v1",
    "aiplatform.v1": "google.cloud.aiplatform.v1",
    "aiplatform.v1beta1": "google.cloud.aiplatform.v1beta1",
    "billingbudgets.v1": "google.cloud.billing.budgets.v1",
    "cloudbilling.v1": "google.cloud.billing.v1",
    "cloudfunctions.v2": "google.cloud.functions.v2",
    "cloudkms.v1": "google.cloud.kms.v1",
    "cloudquotas.v1": "google.api.cloudquotas.v1",
    "cloudresourcemanager.v1": "google.cloudresourcemanager.projects.v1",
    "cloudresourcemanager.v1beta1": "google.cloudresourcemanager.projects.v1beta1",
    "cloudresourcemanager.v3": "google.cloud.resourcemanager.v3",
    "cloudscheduler.v1": "google.cloud.scheduler.v1",
    "compute.v1": "google.cloud.compute.v1",
    "iam.v1": "google.iam.admin.v1",
    "iamcredentials.v1": "google.iam.credentials.v1",
    "monitoring.v3": "google.monitoring.v3",
    "run.v2": "google.cloud.run.v2",
    "serviceusage.v1": "google.api.serviceusage.v1",
    "serviceusage.v1beta1": "google.api.serviceusage.v1beta1",
    "storage.v1": "google.storage.v1",
    "workloadidentity.v1": "google.cloud.workloadidentity.v1",
}
"""APIs that have methods here, and the packages of their messages."""

KNOWN = (
    "artifactregistry.v1",
    "logging.v2",
    "pubsub.v1",
    "secretmanager.v1",
    "sts.v1",
)
"""APIs of which only the paths are known, to tell what Google has from what nobody has."""

_FORMATS = {
    "byte": "bytes",
    "google-datetime": "time",
    "date-time": "time",
    "google-duration": "duration",
    "google-fieldmask": "mask",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float": "float",
    "double": "double",
}
_TYPES = {"boolean": "bool", "integer": "int32", "number": "double", "string": "string", "any": "any"}
_WHOLE_REQUEST = {("iam.v1", "projects.serviceAccounts.update")}
"""Methods whose body is the request itself although it is named after a resource (`body: "*"` of their http rule)."""

_IN_OPERATIONS = [
    f"{verb}{kind}"
    for verb in (
        *("CopyModel", "CreateEndpoint", "Delete", "Deploy", "DeployModel", "ExportModel", "MutateDeployedModel"),
        *("UndeployModel", "UpdateEndpoint", "UploadModel"),
    )
    for kind in ("OperationMetadata", "Response")
]
"""Messages that no method names and operations carry."""

Json = dict[str, Any]


def document(name: str) -> Json:
    """Return the discovery document of an API's version."""
    if name in undocumented.DOCUMENTS:
        return undocumented.DOCUMENTS[name]
    documents = resources.files("googleapiclient.discovery_cache") / "documents"
    loaded: Json = json.loads((documents / f"{name}.json").read_bytes())
    return loaded


def _methods(resource: Json) -> Iterator[Json]:
    yield from resource.get("methods", {}).values()
    for below in resource.get("resources", {}).values():
        yield from _methods(below)


class _Numbers:
    """Names and numbers of enums and messages, from the generated classes of Vertex AI."""

    def __init__(self, package: str) -> None:
        self.messages: dict[str, Any] = {}
        module = import_module(f"google.cloud.aiplatform_{package.rpartition('.')[2]}.types")
        for name in dir(module):
            if hasattr(getattr(module, name), "pb"):
                self._add(getattr(module, name).pb().DESCRIPTOR)

    def _add(self, descriptor: Any) -> None:
        key = "".join(part[0].upper() + part[1:] for part in descriptor.full_name.split("."))
        self.messages[key] = descriptor
        for nested in descriptor.nested_types:
            self._add(nested)

    def enum(self, message: str, field: str) -> Any:
        """Return the descriptor of the enum of a message's field, or None."""
        found = self._field(message, field)
        return found.enum_type if found else None

    def has_presence(self, message: str, field: str) -> bool:
        """Tell whether a plain field knows that it was given, its default included (`optional` of proto3)."""
        found = self._field(message, field)
        return bool(found and found.has_presence and not found.message_type)

    def _field(self, message: str, field: str) -> Any:
        descriptor = self.messages.get(message)
        return next((one for one in descriptor.fields if one.json_name == field), None) if descriptor else None


class _Api:
    """One version of one API on its way into a file."""

    def __init__(self, name: str, package: str, served: set[str]) -> None:
        self.name, self.package, self.served = name, package, served
        self.document = document(name)
        self.numbers = _Numbers(package) if name.startswith("aiplatform.") else None
        self.prefix = "".join(part[0].upper() + part[1:] for part in package.split("."))
        self.messages: dict[str, Json] = {}
        self.enums: list[Any] = []
        self._seen: dict[str, int] = {}
        self._wanted: list[tuple[str, Json]] = []

    def made(self) -> Json:
        """Return what the file holds."""
        methods = {}
        for method in _methods(self.document):
            short = method["id"].partition(".")[2]
            if short in self.served:
                methods[short] = self._method(short, method)
        for name in _IN_OPERATIONS if self.name.startswith("aiplatform.") else ():
            if f"{self.prefix}{name}" in self.document["schemas"]:
                self._reference(f"{self.prefix}{name}")
        while self._wanted:
            key, schema = self._wanted.pop()
            self._message(key, schema)
        return {
            "revision": self.document["revision"],
            "package": self.package,
            "methods": dict(sorted(methods.items())),
            "paths": paths(self.document),
            "messages": dict(sorted(self.messages.items())),
            "enums": self.enums,
        }

    def _method(self, short: str, method: Json) -> list[Any]:
        query = {
            key: self._type("", key, value)
            for key, value in sorted(method.get("parameters", {}).items())
            if value["location"] == "query"
        }
        request = method.get("request", {}).get("$ref", "")
        root = ""
        if request and not request.endswith("Request") and (self.name, short) not in _WHOLE_REQUEST:
            root = _snake(self._short(request))
        return [
            method["httpMethod"],
            query,
            self._reference(request) if request else "",
            root,
            self._reference(method["response"]["$ref"]) if "response" in method else "",
        ]

    def _short(self, schema: str) -> str:
        return schema.removeprefix(self.prefix) or schema

    def _reference(self, schema: str) -> str:
        key = self._short(schema)
        if key not in self.messages:
            self.messages[key] = {}
            self._wanted.append((schema, self.document["schemas"][schema]))
        return key

    def _message(self, schema: str, definition: Json) -> None:
        fields = {
            name: self._type(schema, name, value) for name, value in sorted(definition.get("properties", {}).items())
        }
        made: Json = {"fields": fields}
        descriptor = self.numbers.messages.get(schema) if self.numbers else None
        if descriptor is not None and descriptor.full_name != f"{self.package}.{self._short(schema)}":
            made["name"] = descriptor.full_name
        oneofs = {
            one.name: sorted(field.json_name for field in one.fields if field.json_name in fields)
            for one in (descriptor.oneofs if descriptor is not None else ())
        }
        # A oneof of a single field is how protobuf says that it knows whether the field is there.
        if oneofs := {name: members for name, members in sorted(oneofs.items()) if len(members) > 1}:
            made["oneofs"] = oneofs
        self.messages[self._short(schema)] = made

    def _type(self, message: str, name: str, value: Json) -> str:
        text = str(value.get("description", ""))
        marks = "-" if value.get("readOnly") or text.startswith("Output only") else ""
        marks += "!" if text.startswith("Required.") or value.get("required") else ""
        marks += "?" if self.numbers and self.numbers.has_presence(message, name) else ""
        before = "[" if value.get("repeated") else ""
        return f"{before}{self._plain(message, name, value)}{marks}"

    def _plain(self, message: str, name: str, value: Json) -> str:
        if "$ref" in value:
            return "@" + self._reference(value["$ref"])
        if value.get("type") == "array":
            return "[" + self._plain(message, name, value["items"])
        if "additionalProperties" in value:
            return "{" + self._plain(message, name, value["additionalProperties"])
        if value.get("type") == "object":
            # An object that is defined in place gets the name of its place.
            key = f"{message}{name[0].upper()}{name[1:]}"
            if key not in self.messages:
                self.messages[self._short(key)] = {}
                self._wanted.append((key, value))
            return "@" + self._short(key)
        if "enum" in value:
            return f"#{self._enum(message, name, value['enum'])}"
        return _FORMATS.get(value.get("format", ""), _TYPES[value["type"]])

    def _enum(self, message: str, name: str, values: list[str]) -> int:
        descriptor = self.numbers.enum(message, name) if self.numbers else None
        made: Any = list(values)
        if descriptor is not None:
            numbers = {one.name: one.number for one in descriptor.values}
            made = {"name": descriptor.full_name}
            # A value that is newer than the generated classes has no number that is known.
            numbered = {value: numbers.get(value, -1) for value in values}
            made["values"] = values if list(numbered.values()) == list(range(len(values))) else numbered
        key = json.dumps(made)
        if key not in self._seen:
            self._seen[key] = len(self.enums)
            self.enums.append(made)
        return self._seen[key]


def paths(api: Json) -> Json:
    """Return the tree of an API's paths: segments, `*` for any one and `**` for any rest; `""` holds the verbs."""
    tree: Json = {}
    base = str(api.get("servicePath", ""))
    for method in _methods(api):
        node = tree
        for segment in _segments(base + (method.get("flatPath") or method["path"])):
            node = node.setdefault(segment, {})
        verbs = set(node.get("", "").split()) | {method["httpMethod"]}
        node[""] = " ".join(sorted(verbs))
    return tree


def _segments(path: str) -> Iterator[str]:
    for part in path.split("/"):
        name, colon, verb = part.partition(":")
        if part.startswith("{+") or part == "{invokeId}":
            yield "**"
        else:
            yield ("*" if name.startswith("{") else name) + colon + verb


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _served() -> dict[str, set[str]]:
    """Return the ids of the methods that are served here, by API."""
    found: dict[str, set[str]] = {}
    for method in services.all_methods():
        api, _, short = method.id.partition(".")
        found.setdefault(api, set()).add(short)
    return found


def text(made: Json) -> str:
    """Return a file's text: a line for each method, message, enum and first segment of a path, to be read in a diff."""
    parts = []
    for key, value in made.items():
        if isinstance(value, dict) and value:
            lines = ",\n".join(f"{_compact(name)}:{_compact(item)}" for name, item in value.items())
            parts.append(f"{_compact(key)}:{{\n{lines}}}")
        elif isinstance(value, list) and value:
            lines = ",\n".join(map(_compact, value))
            parts.append(f"{_compact(key)}:[\n{lines}]")
        else:
            parts.append(f"{_compact(key)}:{_compact(value)}")
    return "{" + ",\n".join(parts) + "}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def main(names: Iterable[str] = ()) -> None:
    """Write the files of some APIs, or of all."""
    served = _served()
    for name in names or [*SERVED, *KNOWN]:
        if name in SERVED:
            made = _Api(name, SERVED[name], served.get(name.partition(".")[0], set())).made()
        else:
            found = document(name)
            made = {"revision": found["revision"], "paths": paths(found)}
        content = text(made)
        (DATA / f"{name}.json").write_text(content, "utf-8")
        sys.stderr.write(f"{name}: revision {made['revision']}, {len(content):,} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
