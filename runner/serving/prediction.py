"""Ask a deployed model by its id, its display name or the environment's default."""

from runner.gcp.prediction import ChatAnswer, ChatChunk, chat, predict, resolve_endpoint

__all__ = ["ChatAnswer", "ChatChunk", "chat", "predict", "resolve_endpoint"]
