"""JTM: recommends from millions of items by a learned tree.

    data = jtm_tf.prepare("log.csv", "data")
    model = jtm_tf.fit(data, "run", rounds=3)
    model.recommend(data.history(17), num_results=5)

Names are loaded when they are first used, so that `import jtm_tf` is quick and
preparing data needs no TensorFlow.
"""

import importlib
import typing

from jtm_tf.command_line import keras_backend

if typing.TYPE_CHECKING:
    from jtm_tf.data.interactions import Interactions
    from jtm_tf.data.interactions import load
    from jtm_tf.data.preparing.prepare import prepare
    from jtm_tf.recommender import fit
    from jtm_tf.recommender import Recommendations
    from jtm_tf.recommender import Recommender
    from jtm_tf.tree.tree import Tree

keras_backend.check()

_HOMES = {
    "prepare": "data.preparing.prepare",
    "load": "data.interactions",
    "fit": "recommender",
    "Interactions": "data.interactions",
    "Recommendations": "recommender",
    "Recommender": "recommender",
    "Tree": "tree.tree",
}

__all__ = [
    "Interactions",
    "Recommendations",
    "Recommender",
    "Tree",
    "fit",
    "load",
    "prepare",
]


def __getattr__(name: str) -> typing.Any:
    """Loads a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"jtm_tf.{_HOMES[name]}")
    globals()[name] = value = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
