"""Answer the questions of an evaluation with batch prediction jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runner import json_text, local_files
from runner.errors import RunnerError
from runner.gcp.batch_jobs import BatchJob
from runner.gcp.session import Session
from runner.prices import AGREED, Price, Terms, total
from runner.serving.batches import jobs
from runner.serving.batches.predictors import Predictor
from runner.serving.contest import Answer
from runner.serving.evaluation import Question
from runner.state import state_directory


def answers_of(
    session: Session,
    questions: Sequence[Question],
    predictors: Sequence[Predictor],
    *,
    terms: Terms,
    replicas: int = 1,
    sampling: dict[str, Any],
    rate: float | None = None,
    progress: Any = None,
) -> list[list[Answer]]:
    """Return the answers of several models, from one concurrent job for each model.

    The state below `evaluations/` in the state directory lets the same evaluation continue after a kill.

    Raises:
        CostRefusedError: the price of all jobs together was not approved; nothing was sent.
        RunnerError: a question was refused, or see `jobs.run_job`.
    """
    content = "".join(
        json.dumps({"messages": [dict(message) for message in one.messages]}, ensure_ascii=False) + "\n"
        for one in questions
    )
    folder = state_directory() / "evaluations" / hashlib.sha256(content.encode()).hexdigest()[:20]
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "questions.jsonl"
    local_files.replace(source, content)
    models = {who.model: who for who in predictors}
    prices = [
        price
        for who in models.values()
        if (price := jobs.outstanding(session, who, source, replicas=replicas, sampling=sampling, rate=rate))
    ]
    if prices:
        terms.require(_together(prices))

    def run(who: Predictor) -> list[Answer]:
        name = hashlib.sha256(json.dumps([who.model, sampling], sort_keys=True).encode()).hexdigest()[:12]
        output = folder / f"answers-{name}.jsonl"

        def tell(job: BatchJob) -> None:
            if progress is not None:
                progress(job)

        jobs.run_job(
            session,
            who,
            source,
            output,
            terms=AGREED,
            replicas=replicas,
            sampling=sampling,
            rate=rate,
            progress=tell,
        )
        return _read(output, who)

    with ThreadPoolExecutor(len(models), thread_name_prefix="batch-job") as pool:
        found = dict(zip(models, pool.map(run, models.values()), strict=True))
    return [found[who.model] for who in predictors]


def _together(prices: Sequence[Price]) -> Price:
    usd, expected = total(price.usd for price in prices), total(price.expected or price.usd for price in prices)
    return Price(what=" and ".join(price.what for price in prices), usd=usd, expected=expected)


def _read(output: Path, who: Predictor) -> list[Answer]:
    found: list[Answer] = []
    with output.open(encoding="utf-8") as file:
        for line in file:
            body = json_text.parsed(line)
            if "error" in body:
                raise RunnerError(
                    f"{who.display_name} refused question {body['line']}: {body['error'].get('message', '')}",
                    hint=f"{output} has all answers and errors",
                )
            found.append((str(body["answer"] or ""), 0.0, body.get("finishReason") == "length"))
    return found
