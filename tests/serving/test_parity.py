"""Is what is deployed what was trained? Each failure is planted once, and found; what is as it should be passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from runner.errors import GateFailedError
from runner.gcp import downloads
from runner.gcp.session import Session
from runner.serving.deployment import deploy, undeploy
from runner.serving.evaluation import Question
from runner.serving.parity import ParityFinding, check_parity, parity_check
from runner.serving.plan import plan_deployment
from runner.serving.prediction import resolve_endpoint
from runner.serving.rendering import TrainingTemplate, training_template
from tests.projects import Tuned
from tests.serving.contest_server import ContestServer, Rule, says

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<answer>{% else %}<{{ m.role }}>{% endif %} {{ m.content }} "
    "{% endfor %}{% if add_generation_prompt %}<answer> {% endif %}"
)
WORDS = ["[UNK]", "<user>", "<system>", "<answer>", *"abcdefgh", "yes", "You", "answer", "briefly."]
QUESTIONS = [
    Question(line=index + 1, messages=({"role": "user", "content": f"a {word}"},), reference=f"yes {word}")
    for index, word in enumerate("bcdefg")
]
Body = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    model = WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


def _ids(body: Body) -> list[int]:
    words = [word for m in body["messages"] for word in (f"<{m['role']}>", *m["content"].split())]
    return [WORDS.index(word) for word in [*words, "<answer>"]]


def _told(text: str, ids: list[int], **fields: Any) -> tuple[int, Body]:
    scores = [None, *({str(token): {"logprob": -1.0, "rank": 1, "decoded_token": ""}} for token in ids[1:])]
    return says(text, usage={"prompt_tokens": len(ids)}, prompt_logprobs=scores, **fields)


def _word(body: Body) -> str:
    return str(body["messages"][-1]["content"]).split()[-1]


def right(body: Body) -> tuple[int, Body]:
    """Answer as the training data does, of the prompt that training made."""
    return _told(f"yes {_word(body)}", _ids(body))


def _without_system(body: Body) -> tuple[int, Body]:
    return right({**body, "messages": [m for m in body["messages"] if m["role"] != "system"]})


def _refuses_system(body: Body) -> tuple[int, Body]:
    if body["messages"][0]["role"] == "system":
        return 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no system message"}}
    return right(body)


def _plain(body: Body) -> tuple[int, Body]:
    """Know nothing of vLLM's own field, and count all the same."""
    if "prompt_logprobs" in body:
        return 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "unknown field"}}
    return says(f"yes {_word(body)}", usage={"prompt_tokens": len(_ids(body))})


PLANTED: dict[str, tuple[Rule, str, str]] = {
    "empty": (lambda body: _told(" ", _ids(body)), "answers", "6 of 6 answers are empty"),
    "refuses": (_refuses_system, "answers", "a system message is refused"),
    "drops": (_without_system, "answers", "a system message is dropped"),
    "longer": (lambda body: _told("yes", [*_ids(body), 1]), "template", "makes 5 tokens of the prompt of line 1"),
    "other": (lambda body: _told("yes", [*_ids(body)[:-1], 1]), "template", "makes other tokens of the prompt"),
    "base": (lambda body: _told(f"well {_word(body)}", _ids(body)), "adapter", "6 of 6 answers are the base's"),
    "worse": (lambda body: _told("zzz", _ids(body)), "training", "worse"),
    "endless": (lambda body: _told(f"yes {_word(body)}", _ids(body), reason="length"), "stops", "ended 0 of 6"),
}


def _base(body: Body) -> tuple[int, Body]:
    return says(f"well {_word(body)}")


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_wrong_is_found_and_closes_the_gate(planted: str, folder: Path) -> None:
    rule, check, message = PLANTED[planted]
    found: list[ParityFinding] = []
    with ContestServer({"tuned": rule, "pub/base": _base}) as server, server.session() as session:
        endpoint = resolve_endpoint(session, "tuned")
        template = TrainingTemplate(folder)
        gate = parity_check(session, QUESTIONS, base_model="pub/base", template=template, found=found)
        with pytest.raises(GateFailedError, match=check):
            gate(endpoint, endpoint.deployed_models[0])
    finding = next(item for item in found if item.check == check)
    assert finding.state == "failed"
    assert message in finding.message


@pytest.mark.parametrize(("rule", "said"), [(right, "the tokens that training made"), (_plain, "as many tokens")])
def test_what_is_right_passes(rule: Callable[[Body], tuple[int, Body]], said: str, folder: Path) -> None:
    with ContestServer({"tuned": rule, "pub/base": _base}) as server, server.session() as session:
        endpoint = resolve_endpoint(session, "tuned")
        model = endpoint.deployed_models[0]
        template = TrainingTemplate(folder)
        findings = check_parity(session, endpoint, model, QUESTIONS, base_model="pub/base", template=template)
        states = {item.check: item.state for item in findings}
        assert states.pop("weights") == "unknown", "this server does not say where the weights are from"
        assert set(states.values()) == {"ok"}, findings
        assert next(item for item in findings if item.check == "template").message == f"6 prompts have {said}" + (
            "" if rule is right else " as training made"
        )


def test_prompts_that_cannot_be_rendered(folder: Path) -> None:
    template = TrainingTemplate(folder)
    user = {"role": "user", "content": "a b"}
    picture = [{"type": "image_url", "image_url": {"url": "gs://b/x.png"}}]
    assert template.tokens([{"role": "system", "content": "c"}, user]) == [
        WORDS.index(word) for word in ["<system>", "c", "<user>", "a", "b", "<answer>"]
    ]
    for messages in ([], [{**user, "content": picture}]):
        assert template.tokens(messages) is None


@pytest.mark.training
def test_a_template_that_was_lost_on_the_way_keeps_a_deployment_without_traffic(
    tuned: Tuned, tuned_session: Session, folder: Path
) -> None:
    source = tuned.job.final_checkpoint_uri
    questions = [
        Question(line=i, messages=({"role": "user", "content": f"What is {i}?"},), reference=f"It is {i}.")
        for i in range(3)
    ]
    plan = plan_deployment(tuned_session, tuned.job.id, display_name="parity")
    # The same tokenizer with another template is what an exporter leaves that forgets the file.
    other = folder / "other"
    other.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).write_bytes(downloads.read_bytes(tuned_session, f"{source}/{name}"))
    (other / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}A:")
    check = parity_check(tuned_session, questions, source=source, template=TrainingTemplate(other))
    with pytest.raises(GateFailedError, match="another chat template"):
        deploy(tuned_session, plan, poll=0.3, check=check)
    endpoint = resolve_endpoint(tuned_session, "parity")
    [model] = endpoint.deployed_models
    assert not endpoint.traffic.get(model.id)

    template, why = training_template(tuned_session, source)
    assert template is not None, why
    findings = {item.check: item for item in check_parity(tuned_session, endpoint, model, questions, source=source)}
    assert findings["template"].message == "3 prompts have the tokens that training made"
    assert findings["weights"].state == findings["answers"].state == "ok"
    unnamed = {item.check: item.state for item in check_parity(tuned_session, endpoint, model, questions)}
    assert (unnamed["weights"], unnamed["template"]) == ("unknown", "ok"), "by the template of what is deployed"
    nowhere, why = training_template(tuned_session, source + "-other")
    assert nowhere is None
    assert "tokenizer.json" in why
    assert json.loads((other / "tokenizer.json").read_text())["model"]
    undeploy(tuned_session, endpoint, delete=True)
