"""The signatures of an exported model, built from stock TensorFlow ops.

Inputs share dimension 0, the batch, so that a server can join requests; all
are named and all outputs are named. A client speaks in raw ids, as
items.parquet has them.

recommend, also serving_default: the best M items of each user.
recommend_filtered: the same without some items and within some categories;
    the filter acts inside the search, so M items come whenever M are allowed.
score: the rank of given items.
explain: the best items with the nodes of their paths and those nodes' scores.
trace: the walk itself, level by level: which nodes were kept, and where given
    items stood or were lost. A flat tree, which has no levels, has none.

What is missing, be it an item, a place in a short answer or a candidate that
nobody knows, has the pad id and the least finite float32 as its score.

A request wider than `SearchConfig` allows is an InvalidArgument, whatever
the server: the limits are in the graph.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from export.artefact import filters
from export.artefact import paths
from export.artefact import tracing
from export.artefact import vocabulary
from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.models import frozen
from jtm_tf.models import tree_model
from jtm_tf.search import model_search
from jtm_tf.types import PAD

MISSING = float(tf.float32.min)


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How an exported model searches, and how wide a request may be.

    Attributes:
        beam_width: k, nodes kept on each level; of no effect on a flat tree.
            A pruned search keeps more, and its network scores as many.
        num_results: M, at most `beam_width`: with fewer nodes than results a
            filter might leave an answer short.
        max_history: the widest `history` of a request; of its ids the newest
            T known ones count.
        max_exclusions: the widest `exclude`.
        max_categories: the widest `allow_categories`; work grows with its
            square.
        max_candidates: the widest `candidates`.
        max_traced: the widest `items` that a walk is traced for.
        tables: dtype of the nodes' vectors, one of `frozen.DTYPES`.
    """

    beam_width: int = 400
    num_results: int = 200
    max_history: int = 1024
    max_exclusions: int = 10_000
    max_categories: int = 100
    max_candidates: int = 10_000
    max_traced: int = 100
    tables: str = "float32"

    def __post_init__(self):
        if self.tables not in frozen.DTYPES:
            raise ValueError(
                f"tables must be one of {frozen.DTYPES}; got {self.tables!r}."
            )
        if not 1 <= self.num_results <= self.beam_width:
            raise ValueError(
                "num_results must be in [1, beam_width]; got num_results="
                f"{self.num_results} and beam_width={self.beam_width}."
            )

    @property
    def max_columns(self) -> dict[str, int]:
        """The widest that each input of two dimensions may be."""
        return {
            "history": self.max_history,
            "exclude": self.max_exclusions,
            "allow_categories": self.max_categories,
            "candidates": self.max_candidates,
            "items": self.max_traced,
        }


class ServedModel:
    """A trained model with all it needs to answer clients.

    Args:
        model: with its tree; it is frozen if it is not yet.
        data: the prepared data it was trained on.
        profile: the profile columns it was trained on, in order.
        config: how to search.

    Attributes:
        model: the trained model, frozen.
        config: how it searches.
        items: the items' vocabulary.
        profile: the profile's vocabulary.
        categories: the categories' vocabulary.
        max_history: T; of a longer history the newest T known items count.
        signatures: name to concrete function.

    Raises:
        ValueError: model and data do not fit, a frozen model has tables of
            another dtype, or a history that the model could use may not be
            asked for.
    """

    def __init__(
        self,
        model: tree_model.TreeModel | frozen.FrozenModel,
        data: interactions.Interactions,
        *,
        profile: Sequence[str] = (),
        config: SearchConfig = SearchConfig(),
    ):
        have = (data.num_items, len(profile))
        want = (model.num_items, len(model.profile_sizes))
        if have != want:
            raise ValueError(
                "The model was trained on (items, profile columns) "
                f"{want}; the data have {have}."
            )
        if config.max_history < model.max_history:
            raise ValueError(
                f"The model sees histories of {model.max_history} items, so "
                "expected max_history to be at least that; got "
                f"{config.max_history}."
            )
        self.config, self.max_history = config, model.max_history
        self.items = vocabulary.ItemVocabulary(data.items["raw_id"])
        self.profile = vocabulary.ProfileVocabulary(data, profile)
        known = "category" in data.items.column_names
        self.categories = vocabulary.CategoryVocabulary(
            data.items["category"] if known else None, data.num_items
        )
        if isinstance(model, tree_model.TreeModel):
            model = frozen.FrozenModel(model, dtype=config.tables)
        elif model.embedding.items.dtype != config.tables:
            raise ValueError(
                f"The model was frozen with {model.embedding.items.dtype.name} "
                f"tables; config.tables is {config.tables}."
            )
        self.model = model
        self._filter = filters.ItemFilter(
            model.tree, self.categories, model.pi.value
        )
        self._search = model_search.retriever(
            self.model,
            num_results=config.num_results,
            beam_width=config.beam_width,
        )
        ids = tf.TensorSpec([None, None], self.items.dtype)
        names = tf.TensorSpec([None, None], tf.string)
        user = {"history": ids}
        for name in self.profile.inputs:
            user[name] = tf.TensorSpec([None], tf.string)
        filtered = {**user, "exclude": ids, "allow_categories": names}
        recommend = self._concrete(self._recommend, user)
        self.signatures = {
            "serving_default": recommend,
            "recommend": recommend,
            "recommend_filtered": self._concrete(
                self._recommend_filtered, filtered
            ),
            "score": self._concrete(self._score, {**user, "candidates": ids}),
            "explain": self._concrete(self._explain, user),
        }
        if not model.flat:
            self.signatures["trace"] = self._concrete(
                self._trace, {**filtered, "items": ids}
            )

    def save(self, folder: files.Path) -> None:
        """Writes the SavedModel into a folder."""
        # What the signatures read, and nothing else: TensorFlow would save
        # the functions of model and search too.
        module = tf.Module()
        module.theta = self.model.theta
        module.vocabularies = [self.items, self.profile, self.categories]
        module.filter = self._filter
        module.search = self._search.variables
        # Who loads a gradient keeps it for good, in a list of TensorFlow's
        # own, and its graph with it: a server would grow with every version.
        options = tf.saved_model.SaveOptions(
            experimental_custom_gradients=False
        )
        tf.saved_model.save(
            module, str(folder), signatures=self.signatures, options=options
        )
        _forget_gradients(pathlib.Path(folder) / "saved_model.pb")

    def describe(self) -> dict[str, Any]:
        """Returns inputs and outputs of each signature, with dtype, shape.

        An input of two dimensions says how wide it may be: `max_columns`.
        """
        described = {
            name: {
                "inputs": _described(function.structured_input_signature[1]),
                "outputs": _described(function.structured_outputs),
            }
            for name, function in self.signatures.items()
        }
        for sides in described.values():
            for name, most in self.config.max_columns.items():
                if name in sides["inputs"]:
                    sides["inputs"][name]["max_columns"] = most
        return described

    def _concrete(self, graph, inputs: Mapping[str, tf.TensorSpec]):
        """Traces a graph of named tensors with inputs of these kinds."""

        def call(**tensors):
            for name, most in self.config.max_columns.items():
                if name in tensors:
                    tensors[name] = _no_wider(tensors[name], name, most)
            return graph(tensors)

        specs = {
            name: tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in inputs.items()
        }
        return tf.function(call, autograph=False).get_concrete_function(**specs)

    def _recommend(self, inputs):
        """Maps users to `item_ids` and `scores`, [B, M] each."""
        return self._answer(*self._search.search(self._users(inputs)))

    def _recommend_filtered(self, inputs):
        """Does the same among the items that are allowed and not excluded."""
        return self._answer(
            *self._search.search(self._users(inputs), self._live(inputs))
        )

    def _score(self, inputs):
        """Maps users and `candidates`, [B, W] ids, to `scores`, [B, W]."""
        items = self.items.items(inputs["candidates"])
        scores = self._path_scores(self._users(inputs), items)[1]
        scores = paths.rank(self.model, scores)
        return {"scores": tf.where(items != PAD, scores, MISSING)}

    def _explain(self, inputs):
        """Adds `path_nodes` and `path_scores`, [B, M, L], to `recommend`."""
        users = self._users(inputs)
        items, ranks = self._search.search(users)
        nodes, scores = self._path_scores(users, items)
        found = (items != PAD)[..., None]
        return {
            **self._answer(items, ranks),
            "path_nodes": tf.where(found, nodes, PAD),
            "path_scores": tf.where(found, scores, MISSING),
        }

    def _trace(self, inputs):
        """Tells of the walk of `recommend_filtered`; see `tracing.traced`."""
        return tracing.traced(
            self._search,
            self.model,
            self._users(inputs),
            self.items.items(inputs["items"]),
            self._live(inputs),
        )

    def _live(self, inputs):
        """Returns which nodes have an item that may be returned."""
        return self._filter.live_fn(
            self.items.items(inputs["exclude"]), inputs["allow_categories"]
        )

    def _users(self, inputs):
        """Returns users as the model sees them, [B, user_width] int32."""
        history = self.items.history(inputs["history"], self.max_history)
        if not self.profile.inputs:
            return history
        codes = self.profile.codes(
            [inputs[name] for name in self.profile.inputs]
        )
        return tf.concat([history, codes], 1)

    def _path_scores(self, users, items):
        """Returns path nodes and their scores; those of PAD mean nothing."""
        # There is no path to score for PAD: any item stands in for it.
        nodes = paths.path_nodes(self.model, tf.maximum(items, 1))
        return nodes, paths.path_scores(self.model, users, nodes)

    def _answer(self, items, scores):
        """Names a search's results, items as raw ids."""
        scores = tf.where(items != PAD, scores, MISSING)
        return {"item_ids": self.items.raw_ids(items), "scores": scores}


def read_theta(folder: files.Path) -> list[np.ndarray]:
    """Returns `FrozenModel.theta` of a SavedModel, without loading graphs.

    Raises:
        tf.errors.OpError: the files are damaged.
    """
    path = str(pathlib.Path(folder) / "variables" / "variables")
    weights = tf.train.load_checkpoint(path)
    names = weights.get_variable_to_shape_map()
    theta: list[np.ndarray] = []
    while (name := f"theta/{len(theta)}/.ATTRIBUTES/VARIABLE_VALUE") in names:
        theta.append(weights.get_tensor(name))
    return theta


def _no_wider(tensor, name, most):
    """Returns a [B, columns] input; refuses more than `most` columns."""
    columns = tf.shape(tensor)[1]
    message = f"expected {name} of at most {most} columns; got"
    fits = tf.debugging.Assert(columns <= most, [message, columns])
    with tf.control_dependencies([fits]):
        return tf.identity(tensor)


def _forget_gradients(path):
    """Takes out of a written SavedModel where gradients would be needed.

    Else TensorFlow warns of each function that has none, at every load.
    """
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for part in saved.meta_graphs:
        for function in part.graph_def.library.function:
            for node in function.node_def:
                node.attr.pop("_gradient_op_type", None)
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _described(specs):
    """Returns dtype and shape of each named tensor, for people and JSON."""
    return {
        name: {"dtype": spec.dtype.name, "shape": list(spec.shape)}
        for name, spec in specs.items()
    }
