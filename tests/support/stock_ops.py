"""Which ops a SavedModel runs, and whether a stock server has them all."""

import pathlib

from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry


def foreign(folder: pathlib.Path) -> set[str]:
    """Returns the ops of any graph or function that are not stock TensorFlow.

    Ops that call back into Python are registered in TensorFlow's own library
    and count as foreign: a server has no Python.
    """
    found = set()
    for meta_graph in _meta_graphs(folder):
        functions = _functions(meta_graph)
        nodes = list(meta_graph.graph_def.node)
        for function in functions.values():
            nodes.extend(function.node_def)
        found |= {node.op for node in nodes} - set(functions)
    return {op for op in found if not _stock(op)}


def by_signature(folder: pathlib.Path) -> dict[str, set[str]]:
    """Returns the ops that each signature reaches, through its functions.

    Raises:
        KeyError: a function that is called is not there.
    """
    return {
        name: _reached(meta_graph, signature)
        for meta_graph in _meta_graphs(folder)
        for name, signature in meta_graph.signature_def.items()
    }


def _meta_graphs(folder):
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((folder / "saved_model.pb").read_bytes())
    return proto.meta_graphs


def _functions(meta_graph):
    library = meta_graph.graph_def.library.function
    return {function.signature.name: function for function in library}


def _stock(op):
    known = isinstance(op_def_registry.get(op), op_def_pb2.OpDef)
    return known and "PyFunc" not in op


def _reached(meta_graph, signature):
    """Walks from a signature's outputs up the graph and into functions."""
    graph = {node.name: node for node in meta_graph.graph_def.node}
    functions = _functions(meta_graph)
    wanted = [info.name for info in signature.outputs.values()]
    nodes, names = [], set()
    while wanted:
        name = wanted.pop().lstrip("^").split(":")[0]
        if name not in names:
            names.add(name)
            nodes.append(graph[name])
            wanted.extend(graph[name].input)
    ops, entered = set(), set()
    while nodes:
        node = nodes.pop()
        called = _called(node)
        if node.op in functions:
            called.add(node.op)
        else:
            ops.add(node.op)
        for name in called - entered:
            nodes.extend(functions[name].node_def)
        entered |= called
    return ops


def _called(node):
    """Returns the functions that a node's attributes name."""
    names = set()
    for value in node.attr.values():
        names |= {value.func.name} | {f.name for f in value.list.func}
    return names - {""}
