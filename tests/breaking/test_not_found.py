"""An interrupted deployment is tidied up whatever a 404 says: what the service lists is there, and costs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable

import pytest

from runner.catalog.models import MachineChoice
from runner.errors import GoogleApiError
from runner.gcp import endpoints, operations, records, storage, uploads
from runner.gcp.session import Session
from runner.serving import journal
from runner.serving.deployment import undeploy
from runner.serving.journal import DeploymentRecord, Phase
from runner.serving.labels import LABELS
from runner.serving.plan import container_spec
from runner.serving.recovery import abandoned_records, recover
from tests.breaking.flows.serving import MACHINE, DeployStanding
from tests.breaking.world import World
from tests.gcp.corrupting import Exchange

ID, NUMBER = "omt-0123456789abcdef", "1234567890"
MACHINES = MachineChoice(machine_type=MACHINE, accelerator_type="NVIDIA_L4", accelerator_count=1)
WAYS = {
    "operations": r"GET .*/operations(/[\w-]+)?$",
    "every name": r"GET .*/[a-z]+s/[\w-]+$",
    "removals": r"DELETE|POST .*:undeployModel$",
    "endpoints and their removal": r"(GET|DELETE|POST) .*/endpoints/[\w-]+(:undeployModel)?$",
    "models and their removal": r"(GET|DELETE) .*/models/[\w-]+$",
    "everything but lists": r"GET .*/[a-z]+s/[\w-]+$|DELETE|POST|PATCH",
}
"""What is answered with 404 and not carried out, for good."""


class Interrupted(DeployStanding):
    """A deployment whose process is gone, and an endpoint that is somebody else's."""

    name = "interrupted"

    def deployed(self) -> DeploymentRecord:
        """Deploy to an endpoint of its own, as a command does that nobody hears of again."""
        session, parent = self.place.direct, self.place.environment.parent
        operation = endpoints.deploy_custom_model(
            session, self.source, display_name="interrupted", endpoint_id=ID, model_id=ID
        )
        operations.wait(session, operation, poll=0.1)
        return DeploymentRecord(
            id=ID,
            parent=parent,
            endpoint=f"{parent}/endpoints/{ID}",
            own_endpoint=True,
            model=f"{parent}/models/{ID}",
            operation=operation,
        )

    def deployed_there(self, identity: str = ID, number: str = NUMBER, share: int = 0) -> DeploymentRecord:
        """Deploy to the endpoint that is somebody else's."""
        session, parent = self.place.direct, self.place.environment.parent
        model = f"{parent}/models/{identity}"
        uploaded = endpoints.upload_model(
            session,
            display_name="interrupted",
            gcs_uri=self.source,
            container=container_spec(self.source, 1),
            model_id=identity,
        )
        operations.wait(session, uploaded, poll=0.1)
        traffic = {"0": 100} if share else {}
        operation = endpoints.deploy_model(
            session, self.standing, model, MACHINES, deployed_model_id=number, traffic=traffic
        )
        operations.wait(session, operation, poll=0.1)
        return DeploymentRecord(
            id=identity,
            parent=parent,
            endpoint=self.standing,
            own_endpoint=False,
            model=model,
            deployed_model=number,
            operation=operation,
        )

    def replacing(self) -> DeploymentRecord:
        """Deploy beside the model that is to be taken off."""
        older = self.deployed_there("omt-older", "1111111111", share=100)
        newer = self.deployed_there()
        self.kept = {newer.model, f"{self.standing}/deployedModels/{NUMBER}"}
        return dataclasses.replace(newer, replaces=[older.deployed_model], replaced_models=[older.model])


def _not_found(pattern: str) -> Callable[[Exchange], bool]:
    wanted = re.compile(pattern)

    def change(exchange: Exchange) -> bool:
        if not wanted.search(f"{exchange.method} {exchange.path.partition('?')[0]}"):
            return False
        exchange.times = 0
        error = {"code": 404, "message": "Resource not found.", "status": "NOT_FOUND"}
        exchange.answer_with(404, json.dumps({"error": error}).encode(), {"content-type": "application/json"})
        return True

    return change


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("make", "phase"),
    [
        (Interrupted.deployed, "accepted"),
        (Interrupted.deployed, "sent"),
        (Interrupted.deployed_there, "accepted"),
        (Interrupted.replacing, "deployed"),
    ],
    ids=["own endpoint", "unanswered", "standing endpoint", "replacing"],
)
def test_what_the_service_lists_is_not_forgotten(
    make: Callable[[Interrupted], DeploymentRecord], phase: Phase, way: str, world: World
) -> None:
    place = world.place()
    flow = Interrupted(place)
    record = make(flow)
    kept = _bare(flow.theirs | getattr(flow, "kept", set()))
    broken = dataclasses.replace(place.environment, vertex_url=world.proxy.url)
    with place.entered(), Session(broken) as through:
        entry = journal.begin(dataclasses.replace(record, operation=""))
        entry.mark("sent")
        entry.mark(phase, record.operation if phase != "sent" else "")
        entry.release()
        world.proxy.request = _not_found(WAYS[way])
        recover(through, timeout=0.4, poll=0.1, settle=-5.0)
        world.proxy.request = None
        if not abandoned_records(through):
            assert _bare(flow.truth()) == kept, "it is forgotten, and still there"
        recover(through, timeout=20, poll=0.1, settle=-5.0)
        assert _bare(flow.truth()) == kept
        assert not abandoned_records(through)
    place.close()


def test_a_model_is_still_this_tools_though_its_name_is_not_found(world: World) -> None:
    place = world.place()
    flow = Interrupted(place)
    broken = dataclasses.replace(place.environment, vertex_url=world.proxy.url)
    with place.entered(), Session(broken) as through:
        endpoints.set_model_labels(place.direct, flow.deployed_there().model, LABELS)
        world.proxy.request = _not_found(r"GET .*/models/[\w-]+$")
        undeploy(through, flow.standing)
        world.proxy.request = None
        assert flow.truth() == flow.theirs
    place.close()


@pytest.mark.parametrize("changed", ["no", "deleted", "replaced"])
def test_an_object_is_gone_once_no_list_shows_it(changed: str, world: World) -> None:
    place = world.place()
    bucket = place.environment.outputs_bucket
    uri = place.put(b"old", "folder/a", bucket)
    for name in ("folder/a.b", "folder/a/b"):
        place.put(b"another's", name, bucket)
    generation = storage.existing(place.direct, uri).generation
    if changed == "deleted":
        assert records.delete_record(place.direct, bucket, "folder/a", generation=generation)
    if changed == "replaced":
        uploads.upload_bytes(place.direct, b"new", uri, replace=True)
    broken = dataclasses.replace(place.environment, storage_url=world.proxy.url)
    world.proxy.request = _not_found("DELETE")
    with Session(broken) as through:
        if changed == "no":
            with pytest.raises(GoogleApiError, match="lists it"):
                records.delete_record(through, bucket, "folder/a", generation=generation)
        else:
            assert records.delete_record(through, bucket, "folder/a", generation=generation) == (changed == "deleted")
    world.proxy.request = None
    place.close()


def _bare(names: set[str]) -> set[str]:
    return {endpoints.bare_name(name) for name in names}
