"""Algorithm 2, line 5: which item goes under which descendant.

One sub-problem is the items of one node n_i and its D descendants some levels
below: maximise the sum of weights with at most `capacity` items a descendant.
`greedy_rebalanced` is the paper's solver and takes many sub-problems of equal
D in lockstep; `exact` is the oracle. Pure NumPy (and scipy for the oracle).
"""

import numpy as np
from scipy import optimize

from jtm_tf import ragged

# The item's old seat is elsewhere; in a solver, the item has no seat yet.
NOWHERE = -1

# Who keeps a seat in an overfull node, after those who had one.
ORDERS = ("regret", "weight")


def greedy_rebalanced(
    weights: np.ndarray,
    capacity: np.ndarray | int,
    old: np.ndarray,
    *,
    problem: np.ndarray | None = None,
    lazy: bool = True,
    order: str = "regret",
) -> np.ndarray:
    """Assigns items greedily, then rebalances the overfull nodes.

    (1) Every item goes to its heaviest node. (2) Of the nodes not processed
    the fullest is taken, until it is within capacity. (3) It keeps the items
    that were under it in the old tree, then those first in `order`. (4) Each
    other item goes to its heaviest node not processed. (5) The node is marked
    processed. Of equal weights the old node comes first; an item to which all
    nodes are equal, and whose old seat is lost, is set aside until the end
    and takes a free seat of the emptiest node.

    Departs from the paper: `order="regret"` keeps the items that would lose
    most by leaving, not those of largest weight. A sum of log-probabilities
    falls with every sample, so "weight" would let the rarest items choose.

    Args:
        weights: [n, D] float, larger is better.
        capacity: [P, D] int, the seats of each sub-problem's nodes, or [D]
            or one int if they are the same for all.
        old: [n] int in [0, D), the node the item was under, or NOWHERE.
        problem: [n] int, ascending; rows of different value are independent
            sub-problems, P in number. By default all rows are one.
        lazy: whether rule (3) puts the old items first.
        order: "regret", or "weight" as in the paper.

    Returns:
        [n] int64, the chosen node of each item.

    Raises:
        ValueError: shapes disagree, a weight is not finite, or a sub-problem
            has more items than seats.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}; got {order!r}.")
    problem = _dense(problem, len(weights))
    weights, seats, old = _checked(weights, capacity, old, problem)
    n, nodes = weights.shape
    if n == 0:
        return np.zeros(0, np.int64)

    choice = weights.argmax(axis=1)  # rule (1)
    # Of equal weights the old node: who gains nothing stays, so that trees
    # which fit equally well differ in as few items as they can.
    rows = np.flatnonzero(old != NOWHERE)
    stays = weights[rows, old[rows]] == weights[rows, choice[rows]]
    choice[rows[stays]] = old[rows[stays]]
    # An item without samples weighs the same everywhere. Given to the first
    # node, as argmax would, all of them would push others out of it.
    indifferent = weights.max(axis=1) == weights.min(axis=1)
    choice[indifferent & (old == NOWHERE)] = NOWHERE

    problems = problem[-1] + 1
    load = _load(problem, choice, problems, nodes)
    # In lockstep: a round takes one node of every sub-problem, as none sees
    # another's nodes; so D rounds are enough for any number of them.
    processed = np.zeros((problems, nodes), bool)
    while True:
        excess = np.where(processed, -n, load - seats)
        fullest = excess.argmax(axis=1)  # rule (2)
        overfull = excess[np.arange(problems), fullest] > 0
        if not overfull.any():
            break
        here = np.flatnonzero(overfull)
        # Rule (5) before (4), or who has to leave could choose to come back.
        processed[here, fullest[here]] = True

        taken = seats[here, fullest[here]]
        target = np.where(overfull, fullest, nodes)
        rows = np.flatnonzero(choice == target[problem])
        group = problem[rows]
        current = weights[rows, choice[rows]]
        others = np.where(processed[group], -np.inf, weights[rows])
        is_old = old[rows] == choice[rows]
        # What an item loses if it goes where it likes it next best: who loses
        # least makes room, however large its weight here is.
        first = current - others.max(axis=1) if order == "regret" else current
        keys = (-first, ~is_old, group) if lazy else (-first, group)
        by_priority = np.lexsort(keys)  # rule (3)
        counts = load[here, fullest[here]]
        leaves = by_priority[ragged.ranges(counts) >= np.repeat(taken, counts)]

        rows, group = rows[leaves], group[leaves]
        choice[rows] = np.where(  # rule (4)
            indifferent[rows], NOWHERE, others[leaves].argmax(axis=1)
        )
        load[here, fullest[here]] = taken
        load += _load(group, choice[rows], problems, nodes)

    aside = np.flatnonzero(choice == NOWHERE)
    if len(aside):
        choice[aside] = _free_seats(problem[aside], seats - load)
    return choice


def prices(
    weights: np.ndarray,
    capacity: np.ndarray | int,
    *,
    problem: np.ndarray | None = None,
    stages: int = 8,
    rounds: int = 5,
) -> np.ndarray:
    """Prices the nodes so that demand meets capacity, near the LP's duals.

    A node that suits everybody (popular items sit there) is everybody's
    heaviest, and a greedy choice turns into a queue for it. With a price p_m
    on each node an item asks for argmax_m W_c[m] - p_m, and where every seat
    is taken a price is the same loss for all, so the best assignment stays
    the best. Prices are the duals of entropic optimal transport, cooled from
    the weights' spread to a hundredth of it (Cuturi, "Sinkhorn Distances",
    NeurIPS 2013). Nodes of a sub-problem with seats to spare cost at least 0.

    Args:
        weights: [n, D] float, larger is better.
        capacity: as for `greedy_rebalanced`.
        problem: as for `greedy_rebalanced`.
        stages: temperatures, from high to low.
        rounds: price updates at each of them.

    Returns:
        [P, D] float32 prices, a row a sub-problem.
    """
    problem = _dense(problem, len(weights))
    old = np.full(len(weights), NOWHERE)
    weights, seats, _ = _checked(weights, capacity, old, problem)
    price = np.zeros(seats.shape, np.float32)
    if len(weights) == 0:
        return price
    begins = np.flatnonzero(np.diff(problem, prepend=-1))
    sizes = np.bincount(problem)
    spread = np.add.reduceat(weights.std(axis=1), begins) / sizes
    open_ = seats > 0
    asked = np.where(open_, 0, -np.inf).astype(np.float32)[problem] + weights
    lowest = np.where(seats.sum(axis=1) > sizes, 0, -np.inf)[:, None]
    for cooled in np.geomspace(1, 0.01, stages):
        heat = np.maximum(cooled * spread, 1e-6).astype(np.float32)[:, None]
        for _ in range(rounds):
            share = (asked - price[problem]) / heat[problem]
            share -= share.max(axis=1, keepdims=True)
            np.exp(share, out=share)
            share /= share.sum(axis=1, keepdims=True)
            demand = np.add.reduceat(share, begins, axis=0)
            excess = np.maximum(demand, 1e-9) / np.maximum(seats, 1)
            price += np.where(open_, heat * np.log(excess), 0)
            price = np.maximum(price, lowest).astype(np.float32)
    return price


def exact(
    weights: np.ndarray, capacity: np.ndarray | int, old: np.ndarray
) -> np.ndarray:
    """Solves one sub-problem to optimality; for small ones only.

    A node enters once per seat. Of optimal assignments one that keeps items
    where they were is preferred.

    Args:
        weights: [n, D] float, larger is better.
        capacity: [D] int or one int, the seats of each node.
        old: [n] int in [0, D), the node the item was under, or NOWHERE.

    Returns:
        [n] int64, the chosen node of each item.

    Raises:
        ValueError: as `greedy_rebalanced`.
    """
    problem = _dense(None, len(weights))
    weights, free, old = _checked(weights, capacity, old, problem)
    if len(weights) == 0:
        return np.zeros(0, np.int64)
    # Far below a difference that matters, far above rounding.
    bonus = 1e-9 * max(np.ptp(weights) / len(weights), 1e-12)
    tilted = weights.astype(np.float64)
    rows = np.flatnonzero(old != NOWHERE)
    tilted[rows, old[rows]] += bonus
    seats = np.repeat(
        np.arange(weights.shape[1]), np.minimum(free[0], len(weights))
    )
    _, columns = optimize.linear_sum_assignment(tilted[:, seats], maximize=True)
    return seats[columns]


def _dense(problem: np.ndarray | None, n: int) -> np.ndarray:
    """Returns sub-problem numbers 0, 1, ... in order of appearance, [n]."""
    if problem is None:
        return np.zeros(n, np.int64)
    step = np.diff(problem, prepend=problem[:1])
    if len(problem) != n or np.any(step < 0):
        raise ValueError(f"problem must be [{n}] ascending numbers.")
    return np.cumsum(step > 0)


def _checked(weights, capacity, old, problem):
    """Returns weights, capacity [P, D], old [n] as arrays; raises if wrong."""
    weights, old = np.asarray(weights), np.asarray(old)
    if weights.ndim != 2 or weights.shape[1] < 1:
        raise ValueError(f"weights must be [n, D >= 1]; got {weights.shape}.")
    n, nodes = weights.shape
    capacity = np.asarray(capacity)
    sizes = np.bincount(problem)
    shapes = ((), (nodes,), (len(sizes), nodes))
    if capacity.shape not in shapes or np.any(capacity < 0):
        raise ValueError(
            f"capacity must be of shape (), {shapes[1]} or {shapes[2]} and not "
            f"negative; got shape {capacity.shape}."
        )
    capacity = np.broadcast_to(capacity, shapes[2]).astype(np.int64)
    if old.shape != (n,) or np.any((old < NOWHERE) | (old >= nodes)):
        raise ValueError(
            f"old must be [{n}] numbers in [0, {nodes}) or {NOWHERE}; got "
            f"shape {old.shape}."
        )
    if not np.isfinite(weights).all():
        raise ValueError(
            "weights must be finite; the model gives NaN or infinite "
            "log-probabilities."
        )
    short = np.flatnonzero(sizes > capacity.sum(axis=1))
    if len(short):
        raise ValueError(
            f"{sizes[short[0]]} items do not fit into "
            f"{capacity[short[0]].sum()} seats."
        )
    return weights, capacity, old


def _load(problem, choice, problems, nodes):
    """Counts the items that chose each node, [problems, nodes]."""
    seated = choice != NOWHERE
    keys = problem[seated] * nodes + choice[seated]
    return np.bincount(keys, minlength=problems * nodes).reshape(-1, nodes)


def _free_seats(problem, free):
    """Gives each row a seat of its sub-problem's emptiest node, [k]."""
    nodes = free.shape[1]
    demand = np.bincount(problem, minlength=len(free))
    seats = np.minimum(free, demand[:, None])
    cell = np.repeat(np.arange(free.size), seats.ravel())
    # The i-th seat taken of a node leaves free - i: most room first.
    room = free.ravel()[cell] - ragged.ranges(seats.ravel())
    cell = cell[np.lexsort((-room, cell // nodes))]
    first = ragged.offsets(seats.sum(axis=1))[:-1]
    return cell[ragged.ranges(demand, first)] % nodes
