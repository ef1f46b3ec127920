"""Shared functions of collections: applying a field mask."""

from __future__ import annotations

from typing import Any

from runner.emulator import update_mask
from runner.emulator.aiplatform.tuning_validation import check_labels
from runner.emulator.definitions.parsing import snake
from runner.emulator.errors import ApiError, invalid
from runner.emulator.routing import ApiRequest


def patched(
    request: ApiRequest, current: dict[str, Any], body: dict[str, Any], patchable: frozenset[str], kind: str
) -> dict[str, Any]:
    """Return a resource with the fields of the request's mask taken from `body`.

    Raises:
        ApiError: ABORTED for another etag, INVALID_ARGUMENT for invalid labels, without a mask, or for a field that
            cannot be changed.
    """
    check_labels(body.get("labels", {}))
    if body.get("etag") and body["etag"] != current["etag"]:
        raise ApiError("ABORTED", f"The etag of {kind} {current['name']} has changed.")
    mask = request.query_params.get("updateMask") or request.query_params.get("update_mask")
    if not mask:
        raise invalid("The update_mask field is required.")
    changed = update_mask.apply(current, body, mask, every=patchable)
    fixed = [key for key in {*changed, *current} - patchable if changed.get(key) != current.get(key)]
    if fixed:
        raise invalid(f"The field {snake(sorted(fixed)[0])} cannot be updated.")
    return changed
