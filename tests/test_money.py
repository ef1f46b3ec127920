"""An amount of money is read in one place, whoever types it: options, variables, manifests, pages, programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import FormData

from infra.settings.reader import Reader
from runner.console.state import agreed_terms
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.gcp.session import Session
from runner.jobs.manifests import reading
from runner.jobs.manifests.allowance import Allowance
from runner.prices import DOLLARS, Terms, dollars_of, exact
from runner.serving.comparing import agree_to_judge
from runner.serving.plan import DeploymentPlan
from runner.serving.respondents import Respondent
from runner.serving.spending import VARIABLE, check_hourly_limit, hourly_limit

TEXTS = (
    "nan",
    "inf",
    "-inf",
    "-0",
    "-1",
    "1e400",
    "1e3",
    "5,00",
    "1,2,3",
    "5 dollars",
    "0x5",
    "\u0665",
    "5_0",
    "$",
    "$$5",
)
NUMBERS = (float("nan"), float("inf"), -1.0, -float("inf"), True, "5")
MANIFEST = """\
apiVersion: open-model-tuning/v1
kind: TuningJob
metadata: {name: tone}
spec:
  baseModel: meta/llama3_1@llama-3.1-8b-instruct
  data: {train: 'gs://bucket/x.jsonl'}
  "MONEY": VALUE
"""


@pytest.mark.parametrize(
    ("text", "usd"),
    [("12.50", 12.5), ("$5", 5), ("$1,250", 1250), ("1,250,000.5", 1250000.5), ("0", 0), (".5", 0.5), (" 3. ", 3)],
)
def test_what_is_an_amount(text: str, usd: float) -> None:
    assert dollars_of(text) == usd


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_what_a_page_hands_on_is_read_back(usd: float) -> None:
    assert dollars_of(exact(usd)) == usd


@pytest.mark.parametrize("text", ["", *TEXTS, "9" * 400])
def test_texts_that_are_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=DOLLARS) as said:
        dollars_of(text)
    assert str(said.value) == f"{text[:60]!r} is not {DOLLARS}"
    if text:
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(ConfigurationError) as refused:
            hourly_limit()
        assert refused.value.message == f"{VARIABLE} takes {DOLLARS}, not {text[:60]!r}"
        with pytest.raises(ConfigurationError, match="is not a price"):
            agreed_terms(FormData({"agreed": text}))


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_that_are_none(value: Any) -> None:
    environment = Environment(project="p", vertex_url="http://127.0.0.1:9", storage_url="http://127.0.0.1:9")
    plan = DeploymentPlan(source="gs://b/w", display_name="m", machine=None, usd_per_hour=1.0, price_date="")
    judge = Respondent(name="j", model="google/j")
    with Session(environment) as session:
        ways = {
            "max_cost": lambda: Terms(limit=value),
            "max_hourly_cost": lambda: check_hourly_limit(session, plan, value),
            "judge_price": lambda: agree_to_judge(judge, [], price=value, terms=Terms(), tell=print),
            "the budget": lambda: Allowance(session, value),
        }
        for name, way in ways.items():
            with pytest.raises(ConfigurationError) as refused:
                way()
            assert refused.value.message == f"{name} takes {DOLLARS}, not {value!r}"


@pytest.mark.parametrize("name", ["maxCost", "deploy.maxCostPerHour", "sweep.maxCost"])
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "1e400", "$5", "'5'", "true", "5,00", "[5]"])
def test_manifests(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    outer, _, field = name.rpartition(".")
    written = f"  {outer}: {{{field}: {value!r}}}" if outer and "," in value else f"  {outer}: {{{field}: {value}}}"
    path.write_text(MANIFEST.replace('  "MONEY": VALUE', written if outer else f"  {field}: {value}"))
    [said] = [problem for problem in reading.load([path]).problems if f"spec.{name}:" in problem]
    assert said.endswith(f" is not {DOLLARS}")


@pytest.mark.parametrize("text", TEXTS)
def test_the_budget_of_a_stack(text: str) -> None:
    reader = Reader({"open-model-tuning:budgetAmount": text})
    reader.number("budgetAmount", 0, low=0, high=10**9)
    assert len(reader.problems) == 1
    assert text in reader.problems[0]


def test_the_limit_of_manifests_is_read_as_that_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "$1,250.50")
    assert hourly_limit() == 1250.5
    monkeypatch.delenv(VARIABLE)
    assert hourly_limit() is None
