"""The billed tokens: the dataset in tokens of the requested model, not of its stand-in."""

from __future__ import annotations

import logging
from pathlib import Path

from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.dataset import TokenizedDataset, Tokenizer, read_dataset
from runner.emulator.engine.protocol import TrainingSpec

logger = logging.getLogger(__name__)


def billed_dataset(spec: TrainingSpec) -> TokenizedDataset | None:
    """Return the training data in tokens of the model's own tokenizer.

    None if it is not installed or cannot be used.
    """
    if not spec.billing_tokenizer or spec.images:
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            spec.billing_tokenizer, local_files_only=True, trust_remote_code=False
        )
        cut = Tokenizer(tokenizer, None, max_length=spec.max_sequence_length, files=spec.files)
        found = read_dataset(Path(spec.training_file), cut, images=False)
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        # The user did not name it, so it must not become an error of the job.
        logger.warning("%s cannot count tokens, the stand-in's does: %s", spec.billing_tokenizer, error)
        return None
    return found if found.examples else None
