"""A SavedModel as a session, as TensorFlow Serving loads it.

`tf.saved_model.load` would make a Python object of every operation: a second
of the interpreter for each version, as many objects for the garbage collector
to look through, and a few MiB that TensorFlow never gives back.
"""

import graphlib
import pathlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

_INIT = "__saved_model_init_op"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class Session:
    """The graph of a SavedModel, its variables restored.

    Args:
        folder: of the SavedModel.

    Raises:
        ValueError: it has no graph that is to be served.
        Exception: whatever fails, in the files or in the graph.

    Attributes:
        signatures: what clients may ask for, by name.
    """

    def __init__(self, folder: pathlib.Path):
        model = saved_model_pb2.SavedModel.FromString(
            (folder / "saved_model.pb").read_bytes()
        )
        graphs = [
            x
            for x in model.meta_graphs
            if tf.saved_model.SERVING in x.meta_info_def.tags
        ]
        if len(graphs) != 1:
            raise ValueError(
                f"{folder} has {len(graphs)} graphs with the tag "
                f"{tf.saved_model.SERVING!r}, expected one."
            )
        meta = graphs[0]
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {
            name: meta.signature_def[name]
            for name in sorted(meta.signature_def)
            if name != _INIT
        }
        graph = tf.Graph()
        with graph.as_default():
            for part in _parts(meta.graph_def):
                _import(part)
        threading = tf.config.threading
        self._session = tf.compat.v1.Session(
            graph=graph,
            config=tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=(
                    threading.get_intra_op_parallelism_threads()
                ),
                inter_op_parallelism_threads=(
                    threading.get_inter_op_parallelism_threads()
                ),
            ),
        )
        self._restore(meta, folder)

    def function(self, name: str) -> Callable[..., list[Any]]:
        """Returns a signature as a function.

        It takes arrays of the inputs and returns arrays of the outputs, both
        in the order of their names.
        """
        signature = self.signatures[name]
        inputs, outputs = (
            [
                self._session.graph.get_tensor_by_name(infos[key].name)
                for key in sorted(infos)
            ]
            for infos in (signature.inputs, signature.outputs)
        )
        return self._session.make_callable(outputs, inputs)

    def close(self) -> None:
        """Frees all that the session holds; no function may run any more."""
        self._session.close()

    def _restore(self, meta, folder):
        """Fills variables and tables."""
        if meta.HasField("saver_def"):
            saver = meta.saver_def
            variables = folder / "variables" / "variables"
            self._session.run(
                saver.restore_op_name,
                {saver.filename_tensor_name: str(variables)},
            )
        if _INIT in meta.signature_def:
            assets = {
                asset.tensor_info.name: str(folder / "assets" / asset.filename)
                for asset in meta.asset_file_def
            }
            init = meta.signature_def[_INIT].outputs[_INIT]
            operation = init.name.partition(":")[0]
            self._session.run(operation, assets)


def _parts(graph_def):
    """Returns a graph in parts, each after those that it takes inputs from.

    To import one holds the interpreter: it infers the shapes of all that a
    function's body computes. So each call of a function is a part, with what
    follows from it; but for those that something waits for without an input
    from them, which a part cannot name.
    """
    nodes = {node.name: node for node in graph_def.node}
    sources = {x: [_source(y) for y in nodes[x].input] for x in nodes}
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError:  # a loop of TensorFlow 1
        return [graph_def]
    whole: set[str] = set()
    for name in reversed(order):
        waits = any(x.startswith("^") for x in nodes[name].input)
        if waits or name in whole:
            whole.update([name, *sources[name]])
    parts = [graph_pb2.GraphDef(versions=graph_def.versions)]
    parts[0].library.CopyFrom(graph_def.library)
    part_of: dict[str, int] = {}
    for name in order:
        at = max((part_of[x] for x in sources[name]), default=0)
        if nodes[name].op in _CALLS and name not in whole:
            at = len(parts)
            parts.append(graph_pb2.GraphDef(versions=graph_def.versions))
        part_of[name] = at
        parts[at].node.add().CopyFrom(nodes[name])
    return parts


def _import(part):
    """Adds a part to the graph."""
    graph = tf.compat.v1.get_default_graph()
    own = {node.name for node in part.node}
    outside = {
        x for node in part.node for x in node.input if _source(x) not in own
    }
    known = {
        x: graph.get_tensor_by_name(x if ":" in x else f"{x}:0")
        for x in outside
    }
    tf.graph_util.import_graph_def(part, input_map=known, name="")


def _source(name):
    """Returns the node that an input comes from."""
    return name.removeprefix("^").partition(":")[0]
