"""Deploy really tuned weights, ask them, take them down; refuse what is not ours; leave nothing behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from runner.catalog import load_catalog
from runner.catalog.models import MachineChoice
from runner.errors import ConfigurationError, GoogleApiError, NotFoundError, RunnerError
from runner.gcp import endpoints, operations, uploads
from runner.gcp.endpoints import Endpoint
from runner.gcp.prediction import ChatAnswer
from runner.gcp.prediction import chat as gcp_chat
from runner.gcp.session import Session
from runner.serving import deployment, listing, prediction
from runner.serving.deployment import deploy, undeploy
from runner.serving.plan import choose_machine, hourly_price, plan_deployment
from tests.gcp.flaky import Fault, FlakyProxy
from tests.projects import MODEL, Tuned

L4 = MachineChoice(machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1)
MESSAGES = [{"role": "user", "content": "What is 3?"}]


@pytest.fixture
def through(tuned: Tuned, proxy: FlakyProxy) -> Iterator[Session]:
    """A session on the tuned model's project, through the proxy."""
    with Session(dataclasses.replace(tuned.environment, vertex_url=proxy.url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def deployed(tuned: Tuned) -> Iterator[Endpoint]:
    """The tuned model on an endpoint; taken down by this tool afterwards."""
    with Session(tuned.environment) as opened:
        steps: list[str] = []
        endpoint = deploy(opened, plan_deployment(opened, tuned.job.id), poll=0.3, progress=steps.append)
        assert steps
        yield endpoint
        removed = undeploy(opened, endpoint.id, delete=True)
        assert endpoint.name in removed
        assert len(removed) == 3
        with pytest.raises(NotFoundError):
            endpoints.get_endpoint(opened, endpoint.id)
        with pytest.raises(NotFoundError):
            endpoints.get_model(opened, endpoint.deployed_models[0].model)


@pytest.mark.parametrize("machine", load_catalog().machines, ids=lambda machine: machine.machine_type)
def test_every_machine_of_the_catalogue_has_its_price(machine: object) -> None:
    found = next(item for item in load_catalog().machines if item == machine)
    choice = MachineChoice(
        machine_type=found.machine_type,
        accelerator_type=found.accelerator_type,
        accelerator_count=found.accelerator_count,
    )
    assert hourly_price(choice) == found.usd_per_hour > 0


def test_unknown_prices_are_unknown() -> None:
    assert hourly_price(None) is None
    assert hourly_price(dataclasses.replace(L4, accelerator_count=2)) is None


def test_choice_of_a_machine() -> None:
    assert choose_machine(MODEL) == L4
    assert choose_machine("meta/unknown") is None
    assert choose_machine("") is None
    assert choose_machine(MODEL, "g2-standard-24") == MachineChoice(
        machine_type="g2-standard-24", accelerator_type="NVIDIA_L4", accelerator_count=2
    )
    own = choose_machine("", "n1-standard-8", "NVIDIA_TESLA_T4", 1)
    assert own == MachineChoice(machine_type="n1-standard-8", accelerator_type="NVIDIA_TESLA_T4", accelerator_count=1)
    with pytest.raises(ConfigurationError, match="not in the catalog"):
        choose_machine(MODEL, "n1-standard-8")
    with pytest.raises(ConfigurationError, match="needs a machine type"):
        choose_machine(MODEL, None, "NVIDIA_L4")


@pytest.mark.training
def test_a_plan_has_source_and_price(tuned: Tuned, tuned_session: Session) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    assert (plan.source, plan.machine, plan.usd_per_hour) == (tuned.job.final_checkpoint_uri, L4, 1.1507)
    assert plan.to_json()["usdPerDay"] == 27.62
    numbered = plan_deployment(tuned_session, tuned.job.name, checkpoint="1", machine_type="a3-highgpu-1g")
    assert numbered.source.endswith("/checkpoints/checkpoint-1")
    assert numbered.usd_per_hour == 12.6259
    folder = plan_deployment(tuned_session, tuned.job.final_checkpoint_uri + "/")
    assert (folder.source, folder.machine) == (tuned.job.final_checkpoint_uri, L4), "the service recommends it"


@pytest.mark.training
def test_plans_without_weights(tuned: Tuned, tuned_session: Session) -> None:
    with pytest.raises(NotFoundError, match=r"no \.safetensors"):
        plan_deployment(tuned_session, tuned.job.id, checkpoint="99")
    with pytest.raises(NotFoundError):
        plan_deployment(tuned_session, "4711")
    with pytest.raises(ConfigurationError):
        plan_deployment(tuned_session, "gs://B/x")
    with pytest.raises(NotFoundError):
        plan_deployment(tuned_session, tuned.job.id, endpoint="4711")


@pytest.mark.training
def test_a_deployed_model_is_listed_labelled_and_answers(deployed: Endpoint, tuned_session: Session) -> None:
    assert deployed.labels["managed-by"] == "open-model-tuning-runner"
    assert deployed.deployed_models[0].machine == L4
    [listed] = [item for item in listing.list_deployments(tuned_session) if item.endpoint.id == deployed.id]
    assert (listed.ours, listed.billed, listed.usd_per_hour) == (True, True, 1.1507)
    model = endpoints.get_model(tuned_session, deployed.deployed_models[0].model)
    assert model["labels"]["managed-by"] == "open-model-tuning-runner"
    instance = {"prompt": "What is 3?", "max_tokens": 4, "temperature": 0.0}
    bare, whole = prediction.predict(tuned_session, deployed.id, [{**instance, "raw_response": True}, instance])
    assert isinstance(bare, str)
    assert whole == f"Prompt:\nWhat is 3?\nOutput:\n{bare}"


@pytest.mark.training
def test_chat_whole_and_streamed_agree(deployed: Endpoint, tuned_session: Session) -> None:
    answer = prediction.chat(tuned_session, endpoint=deployed, messages=MESSAGES, max_tokens=6, temperature=0.0, seed=1)
    assert isinstance(answer, ChatAnswer)
    assert answer.finish_reason in {"stop", "length"}
    assert 0 < answer.usage["completion_tokens"] <= 6
    pieces = list(
        prediction.chat(
            tuned_session, endpoint=deployed, messages=MESSAGES, max_tokens=6, temperature=0.0, seed=1, stream=True
        )
    )
    assert "".join(piece.text for piece in pieces) == answer.text
    assert pieces[-1].finish_reason == answer.finish_reason


@pytest.mark.training
def test_ways_to_name_an_endpoint(deployed: Endpoint, tuned: Tuned, tuned_session: Session) -> None:
    for name in (deployed.id, deployed.name, f"endpoints/{deployed.id}", deployed.display_name, None):
        assert prediction.resolve_endpoint(tuned_session, name).name == deployed.name
    with Session(dataclasses.replace(tuned.environment, default_endpoint=deployed.id)) as opened:
        assert prediction.resolve_endpoint(opened).id == deployed.id
    with pytest.raises(NotFoundError, match="id or the name 'nobody'"):
        prediction.resolve_endpoint(tuned_session, "nobody")


@pytest.mark.training
def test_wrong_requests_are_errors_of_the_service(deployed: Endpoint, tuned_session: Session) -> None:
    with pytest.raises(GoogleApiError) as caught:
        prediction.predict(tuned_session, deployed, [{"max_tokens": 3}])
    assert caught.value.http == 400
    with pytest.raises(GoogleApiError):
        list(prediction.chat(tuned_session, endpoint=deployed, messages=[], stream=True))
    with pytest.raises(ValueError, match="either endpoint or model"):
        gcp_chat(tuned_session, endpoint=deployed, model="meta/x-maas", messages=MESSAGES)


@pytest.mark.training
@pytest.mark.parametrize("kind", ["lose answer", "503 after"])
def test_a_deployment_whose_answer_is_lost_is_found(
    kind: str, tuned: Tuned, through: Session, proxy: FlakyProxy
) -> None:
    proxy.faults.append(Fault("POST", r":deploy$", kind))
    endpoint = deploy(through, plan_deployment(through, tuned.job.id), poll=0.3)
    try:
        assert proxy.count("POST", r":deploy$") == 1
        assert len(endpoint.deployed_models) == 1
        assert endpoint.labels["managed-by"] == "open-model-tuning-runner"
    finally:
        undeploy(through, endpoint, delete=True)
    assert all(item.endpoint.id != endpoint.id for item in listing.list_deployments(through))


@pytest.mark.training
def test_a_lost_deployment_leaves_nothing(
    tuned: Tuned, through: Session, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {item.endpoint.id for item in listing.list_deployments(through)}
    plan = plan_deployment(through, tuned.job.id)
    monkeypatch.setattr(deployment, "LOOKUP_SECONDS", 0.3)
    proxy.faults.append(Fault("POST", r":deploy$", "lose request"))
    with pytest.raises(RunnerError):
        deploy(through, plan)
    assert {item.endpoint.id for item in listing.list_deployments(through)} == before


@pytest.mark.training
def test_broken_weights_fail_and_leave_nothing(tuned: Tuned, tuned_session: Session) -> None:
    before = {item.endpoint.id for item in listing.list_deployments(tuned_session)}
    folder = f"gs://{tuned.environment.outputs_bucket}/broken"
    uploads.upload_bytes(tuned_session, b"no weights", f"{folder}/model.safetensors")
    uploads.upload_bytes(tuned_session, b'{"model_type": "llama"}', f"{folder}/config.json")
    with pytest.raises(GoogleApiError):
        deploy(tuned_session, plan_deployment(tuned_session, folder), poll=0.3)
    assert {item.endpoint.id for item in listing.list_deployments(tuned_session)} == before


@pytest.mark.training
def test_an_existing_endpoint_gets_the_newer_model(tuned: Tuned, tuned_session: Session) -> None:
    name = f"/v1beta1/{tuned.environment.parent}/endpoints"
    answer = tuned_session.http.post(name, params={"endpointId": "123456"}, json={"displayName": "standing"})
    operations.wait(tuned_session, answer.raise_for_status().json()["name"], timeout=30)
    first = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, endpoint="123456"), poll=0.3)
    [one] = first.deployed_models
    assert first.id == "123456"
    assert prediction.predict(tuned_session, first, [{"prompt": "Hello", "max_tokens": 2}])
    again = plan_deployment(tuned_session, tuned.job.id, checkpoint="1", endpoint="123456")
    second = deploy(tuned_session, again, poll=0.3)
    [two] = second.deployed_models
    assert two.id != one.id
    assert second.traffic == {two.id: 100}
    # The endpoint is not this tool's: its models may be taken off, the endpoint may not be deleted.
    with pytest.raises(ConfigurationError, match="did not create endpoint"):
        undeploy(tuned_session, second, delete=True)
    assert undeploy(tuned_session, second)
    assert endpoints.get_endpoint(tuned_session, "123456").deployed_models == ()
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, "123456"), timeout=30)


@pytest.mark.training
def test_models_of_others_are_left_alone(tuned: Tuned, tuned_session: Session) -> None:
    operation = endpoints.deploy_custom_model(
        tuned_session, tuned.job.final_checkpoint_uri, display_name="another's", machine=L4
    )
    answer = operations.wait(tuned_session, operation, timeout=120, poll=0.3)
    found = endpoints.get_endpoint(tuned_session, answer["endpoint"])
    with pytest.raises(ConfigurationError, match="was deployed by this tool"):
        undeploy(tuned_session, found)
    with pytest.raises(ConfigurationError, match="did not create endpoint"):
        undeploy(tuned_session, found, delete=True)
    [listed] = [item for item in listing.list_deployments(tuned_session) if item.endpoint.id == found.id]
    assert not listed.ours
    for item in found.deployed_models:
        operations.wait(tuned_session, endpoints.undeploy_model(tuned_session, found.name, item.id), timeout=60)
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, found.name), timeout=30)


def test_operations_that_fail_or_do_not_exist(session: Session) -> None:
    with pytest.raises(GoogleApiError, match="its result is unknown"):
        operations.wait(session, f"{session.environment.parent}/operations/4711", timeout=5)
    with pytest.raises(NotFoundError):
        undeploy(session, "4711")
    with pytest.raises(NotFoundError):
        endpoints.delete_endpoint(session, "4711")
    with pytest.raises(ConfigurationError, match="no endpoint has a model"):
        prediction.resolve_endpoint(session)


@pytest.mark.training
def test_an_endpoint_that_is_empty_is_used_only_by_its_name(tuned: Tuned, tuned_session: Session) -> None:
    """Between plan and deployment somebody else's model may come to serve there."""
    choices = {"display_name": "left-empty", "machine_type": "a3-highgpu-1g"}
    made = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, **choices))  # type: ignore[arg-type]
    try:
        undeploy(tuned_session, made)
        again = plan_deployment(tuned_session, tuned.job.id, **choices)  # type: ignore[arg-type]
        assert again.endpoint is None
        named = plan_deployment(tuned_session, tuned.job.id, endpoint=made.id, **choices)  # type: ignore[arg-type]
        assert named.endpoint == made.name
    finally:
        undeploy(tuned_session, made, delete=True)
