"""Embeds any number of texts with an orthrus server, as fast as it takes them."""

from .client import Client, EmbeddingSpaceChanged, OrthrusError, Refused, Stats, Unavailable

__all__ = ["Client", "EmbeddingSpaceChanged", "OrthrusError", "Refused", "Stats", "Unavailable"]
