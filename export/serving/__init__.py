"""A small server of exported models, speaking TensorFlow Serving's protocols.

Needs the SavedModel only, never the library that trained it.
"""

from export.serving.config import Config
from export.serving.server import Server

__all__ = ["Config", "Server"]
