"""What training on a cluster costs: hours, bytes and memory, part by part.

A model of a few lines, not a promise: rows are drawn evenly, which is the most
of them that a step can meet; users who keep to a part of the tree meet fewer.
"""

import dataclasses
import math

from jtm_tf.learning import settings
from jtm_tf.tree import learning as tree_learning
from jtm_tf.tree import tree as tree_lib

_FLOAT = 4
# A row on the wire beside its numbers: its place.
_INDEX = 4
# Numbers that are kept for one of the table: itself and Adam's two moments.
_KEPT = 3
# Of a sample in the chief's memory: its item, and where its user's rows begin
# and end and it lies among them.
_SAMPLE = 4 + 3 * 8
# Copies of a block's weights while it is solved: as they are, with those of
# kin, and what those ask for who have to leave a node.
_WEIGHTS = 3
# Starts that a tree step is solved from.
_STARTS = 2
# Copies of the items' vectors while they are clustered, and of the inner nodes'
# that are put back after a visit.
_VECTORS = 4
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a core does in a second; measured by `experiments.cluster_cost`.

    Attributes:
        nodes: that a worker scores in training, forth and back.
        rows: that a parameter server reads and updates.
        pairs: (sample, node) pairs that the tree step scores.
    """

    nodes: float
    rows: float
    pairs: float


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be trained, and where.

    Attributes:
        items: N.
        samples: of an epoch, targets.
        hosts: machines; each is a worker and a parameter server.
        cores: of each.
        gigabits: a second that each sends, and receives.
        branching: b.
        embedding_dim: E.
        history: behaviours that describe a user, T.
        windows: that they are pooled in, that of all counted.
        negatives: of a sample, in all.
        batch: samples of a step.
        dense: weights of the network beside the table.
        gap: d of Algorithm 2.
        samples_per_item: that the tree step weighs.
    """

    items: int
    samples: int
    hosts: int
    cores: int = 16
    gigabits: float = 10.0
    branching: int = 2
    embedding_dim: int = 24
    history: int = 69
    windows: int = 11
    negatives: int = 100
    batch: int = 256
    dense: int = 80_000
    gap: int = 4
    samples_per_item: int = 10

    @property
    def levels(self) -> int:
        """l_max."""
        return tree_lib.min_max_level(self.items, self.branching)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What it takes.

    Attributes:
        step_rows: rows that a step reads, and updates.
        step_bytes: that it sends and receives.
        epoch_bytes: that all workers send and receive.
        worker_hours: of an epoch, if nothing but workers' cores counted.
        wire_hours: the same of the network.
        server_hours: the same of parameter servers' cores.
        epoch_hours: the largest of them.
        tree_hours: of a tree step's scoring, by all cores.
        table_bytes: of the vectors and their moments, all servers together.
        server_bytes: of each.
        chief_bytes: rows of the training users with their places, pi and what
            it was, and the larger of the weights of the widest block of
            Algorithm 2 and the items' vectors while they are clustered.
    """

    step_rows: float
    step_bytes: float
    epoch_bytes: float
    worker_hours: float
    wire_hours: float
    server_hours: float
    epoch_hours: float
    tree_hours: float
    table_bytes: float
    server_bytes: float
    chief_bytes: float


def distinct(draws: float, nodes: float) -> float:
    """Returns how many of some nodes are met in so many even draws."""
    if nodes <= 1:
        return min(draws, nodes)
    return nodes * -math.expm1(draws * math.log1p(-1 / nodes))


def estimate(job: Job, rates: Rates) -> Cost:
    """Returns what a job costs."""
    levels = range(1, job.levels + 1)
    total = sum(levels)
    rows, scored = 0.0, 0
    for level in levels:
        nodes = float(job.branching) ** level
        drawn = 1 + max(1, round(job.negatives * level / total))
        # A look-up for the histories and one for the scored nodes.
        rows += distinct(job.batch * job.history, min(nodes, job.items))
        rows += distinct(job.batch * drawn, nodes)
        scored += drawn
    row = job.embedding_dim * _FLOAT + _INDEX
    step_bytes = 2 * (rows * row + job.dense * _FLOAT)
    steps = job.samples / job.batch
    cores = job.hosts * job.cores
    wire = steps * step_bytes / (job.hosts * job.gigabits / 8 * 1e9)
    worker = job.samples * scored / (rates.nodes * cores)
    server = steps * rows / (rates.rows * cores)
    weighed = min(job.samples, job.samples_per_item * job.items)
    learning = settings.JointConfig().tree_learning
    blocks = tree_learning.steps(
        tree_learning.last_level(
            round(weighed), job.levels, job.branching, learning.cluster_below
        ),
        job.gap,
        num_items=job.items,
        branching=job.branching,
        most=learning.problem_weights,
    )
    # From pi and from clusters, see `JointConfig.clusters_first`.
    pairs = (
        _STARTS
        * weighed
        * sum(
            job.branching**depth
            for _, gap in blocks
            for depth in range(1, gap + 1)
        )
    )
    weights = max(
        min(learning.problem_weights, job.items * job.branching**job.gap),
        job.items * job.branching,
    )
    codes = tree_lib.num_codes(job.levels, job.branching)
    table = _KEPT * codes * job.embedding_dim * _FLOAT
    return Cost(
        step_rows=rows,
        step_bytes=step_bytes,
        epoch_bytes=steps * step_bytes,
        worker_hours=worker / _HOUR,
        wire_hours=wire / _HOUR,
        server_hours=server / _HOUR,
        epoch_hours=max(worker + server, wire) / _HOUR,
        tree_hours=pairs / (rates.pairs * cores) / _HOUR,
        table_bytes=table,
        server_bytes=table / job.hosts,
        chief_bytes=job.samples * _SAMPLE
        + job.items * 8
        + max(
            _WEIGHTS * weights * _FLOAT,
            _VECTORS * job.items * job.embedding_dim * _FLOAT,
        ),
    )
