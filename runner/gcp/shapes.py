"""The types of fields in Google's JSON that this package reads, by name, because a name has one meaning.

A response may have passed a proxy, or come from a server that only resembles Google's. Values of another type are
refused when they are read, so that later code need not check them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_WHOLE = re.compile(r"-?[0-9]{1,18}|[0-9]{19}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    """Return whether it is an integer, which JSON of protocol buffers writes as a string if it has 64 bits."""
    if isinstance(value, str):
        return _WHOLE.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_whole(item) for item in value.values())


_NAMES: dict[Callable[[Any], bool], str] = {
    _is_text: "name displayName state tuningJobState createTime startTime endTime updateTime timeCreated updated "
    "baseModel customBaseModel outputUri model endpoint artifactUri description tunedModelDisplayName nextPageToken "
    "bucket contentType storageClass crc32c machineType acceleratorType checkpointId trainingDatasetUri adapterSize "
    "validationDatasetUri location locationType deploymentStage dedicatedEndpointDns tuningMode quotaId service role",
    _is_whole: "generation metageneration size maxReplicaCount minReplicaCount acceleratorCount epochCount "
    "completedEpochCount completedStepCount batchSize grantedValue projectNumber",
    _is_number: "learningRate",
    _is_object: "supervisedTuningSpec hyperParameters tunedModel tuningJobMetadata tuningDataStats dedicatedResources "
    "machineSpec response metadata quotaConfig supervisedTuningDataStats interval metric resource",
    _is_flag: "done dedicatedEndpointEnabled",
    _are_texts: "members includedPermissions messageIds",
    _are_objects: "items endpoints models tuningJobs operations quotaPreferences timeSeries points bindings choices "
    "deployedModels checkpoints recommendations specs",
    _is_map: "labels systemLabels",
    _is_split: "trafficSplit",
}
_SHAPES = {name: shape for shape, names in _NAMES.items() for name in names.split()}


def problem_of(document: Mapping[str, Any]) -> str:
    """Return the error in a response; "" if every known field has its type."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, list):
            waiting.extend((where, item) for item in value if isinstance(item, (dict, list)))
            continue
        for key, item in value.items():
            shape = _SHAPES.get(key)
            if item.__class__ is str and (shape is _is_text or shape is None):
                continue  # most are valid, and an upload waits for each call
            if shape is not None and not shape(item):
                return f"{where}{key} is {str(item)[:40]!r}"
            # Keys and values that users choose.
            if isinstance(item, (dict, list)) and shape not in (_is_map, _is_split) and key != "metadata":
                waiting.append((f"{where}{key}.", item))
    return ""
