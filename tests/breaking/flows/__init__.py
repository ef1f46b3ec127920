"""The command lines of the sweep: what each needs, and what must be true after it."""

from __future__ import annotations

from tests.breaking.flows.flow import Flow
from tests.breaking.flows.jobs import Apply, Clone, Queue, Submit
from tests.breaking.flows.serving import Batch, Deploy, DeployStanding, Eval, Leaks, Promote, Undeploy
from tests.breaking.flows.transfers import Download, Upload, UploadInPieces

FLOWS: tuple[type[Flow], ...] = (
    Submit,
    Clone,
    Apply,
    Queue,
    Upload,
    UploadInPieces,
    Download,
    Deploy,
    DeployStanding,
    Promote,
    Undeploy,
    Leaks,
    Batch,
    Eval,
)
