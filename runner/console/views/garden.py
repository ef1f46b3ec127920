"""Model Garden: the base models, and the two actions of each card."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from runner.catalog import load_catalog
from runner.console.state import Console
from runner.serving.plan import hourly_price


def page(console: Console, request: Request) -> Response:
    """Show a card for each base model."""
    catalog = load_catalog()
    cards = [(model, hourly_price(model.serving)) for model in catalog.models]
    return console.pages.answer(request, "garden.html", cards=cards, catalog=catalog)
