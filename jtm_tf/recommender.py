"""A finished run by raw ids: fit, recommend, evaluate. The public face.

    data = jtm_tf.prepare("log.csv", "data")
    model = jtm_tf.fit(data, "run", rounds=3)
    model.recommend(data.history(17), num_results=5)

Only names and defaults are decided here: `joint` trains, `search` finds.
"""

import importlib.metadata
import pathlib
import sys
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from jtm_tf import files
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.learning import joint
from jtm_tf.learning import settings as settings_lib
from jtm_tf.runs import forking
from jtm_tf.runs import trained
from jtm_tf.search import judging
from jtm_tf.search import model_search
from jtm_tf.search import retrieval
from jtm_tf.tree import tree as tree_lib
from jtm_tf.types import PAD

RawId = int | str

# Recall of 200 among 200 items is 1 whatever the model.
_ITEMS_A_RESULT = 10


class Recommendation(NamedTuple):
    """An item that is recommended; scores rank items of one user."""

    raw_id: RawId
    name: str
    score: float


class Recommendations(Sequence[Recommendation]):
    """What a user is recommended, best first.

    Attributes:
        known: how many ids of the history the model knows.
        unknown: how many it does not, and has passed over.
    """

    def __init__(
        self, items: Sequence[Recommendation], *, known: int, unknown: int
    ):
        self._items = tuple(items)
        self.known, self.unknown = known, unknown

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __repr__(self) -> str:
        total = self.known + self.unknown
        head = f"{len(self)} items for a history of {total}"
        if self.unknown:
            head += f", {self.unknown} of them unknown"
        width = max([len(str(x.raw_id)) for x in self], default=0)
        return "\n".join(
            [head]
            + [
                f"{rank:>4}  {x.score:>8.3f}  {x.raw_id!s:<{width}}  {x.name}"
                for rank, x in enumerate(self, 1)
            ]
        )


class Recommender:
    """The best model of a run, its tree and its data.

    Args:
        run: what `trained.load` returns; `Recommender.load` takes a folder.

    Attributes:
        run: the same.
    """

    def __init__(self, run: trained.TrainedRun):
        self.run = run
        self._searches: dict[int, Callable] = {}
        self._page: Any = None

    @classmethod
    def load(
        cls, run_dir: files.Path, data_dir: files.Path | None = None
    ) -> "Recommender":
        """Loads a run folder; see `trained.load`."""
        return cls(trained.load(run_dir, data_dir))

    def __repr__(self) -> str:
        test = self.run.metrics.get("test")
        found = (
            f", test recall@{test['num_results']} {100 * test['recall']:.2f} %"
            if test
            else ", not finished"
        )
        return (
            f"Recommender({self.run.settings.method!r}, {self.data!r}, "
            f"{self.tree!r}{found})"
        )

    @property
    def data(self) -> interactions.Interactions:
        """What it was trained on."""
        return self.run.data

    @property
    def tree(self) -> tree_lib.Tree:
        """The index; its items are numbers 1..N of items.parquet."""
        return self.run.model.tree

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json of the run; docs/formats.md says what is in it."""
        return self.run.metrics

    def trees(self) -> list[tree_lib.Tree]:
        """Returns the initial tree and that of each tree step, in order."""
        if self.run.folder is None:
            return [self.tree]
        steps = range(1 + self.run.settings.joint_iterations)
        paths = map(self.run.folder.tree, steps)
        return [tree_lib.Tree.load(path) for path in paths if path.exists()]

    def recommend(
        self,
        history: Sequence[RawId],
        *,
        num_results: int = 10,
        beam_width: int | None = None,
        exclude: Sequence[RawId] = (),
        profile: Mapping[str, Any] | None = None,
    ) -> Recommendations:
        """Recommends to one user.

        Unknown ids are passed over and counted. Where nothing is known, the
        answer is the one to somebody new: every training user's first item
        was learned from an empty history.

        Args:
            history: raw ids of what the user had, oldest first; the newest
                count.
            num_results: M.
            beam_width: k, nodes kept on each level; by default that of the
                run's metrics, and at least M.
            exclude: raw ids never to return, such as the history itself. Of
                b k ranked items (2 k on a flat tree), so that M are left
                unless more than the rest are excluded.
            profile: values of the profile columns that the model learned
                from; what is missing is unknown.

        Returns:
            At most M items, best first.

        Raises:
            ValueError: no history of ids, an unknown profile column, or a
                beam that ranks fewer than M items.
        """
        forking.check()
        if num_results < 1:
            raise ValueError(f"num_results must be >= 1; got {num_results}.")
        numbers = self._numbers(history, "history")
        user = self._user(numbers[numbers != PAD], profile or {})
        beam = beam_width or max(self.run.settings.beam_width, num_results)
        if self.run.model.flat:  # all items are scored, whatever the beam
            beam = max(beam, num_results)
        else:
            retrieval.check_beam(
                beam, num_results, branching=self.run.model.branching
            )
        ranked, scores = (x.numpy()[0] for x in self._search(beam)(user))
        kept = (ranked != PAD) & ~np.isin(
            ranked, self._numbers(exclude, "exclude")
        )
        best = np.flatnonzero(kept)[:num_results]
        known = int(np.count_nonzero(numbers))
        if len(numbers) and not known:
            warnings.warn(
                f"None of the {len(numbers)} ids of the history is an item; "
                f"items are such as {self.data.item_ids.of([1])[0]!r}. This "
                "is the answer to somebody new.",
                stacklevel=2,
            )
        rows = zip(
            self.data.item_ids.of(ranked[best]),
            self.data.item_names(ranked[best]),
            scores[best].tolist(),
        )
        return Recommendations(
            [Recommendation(*row) for row in rows],
            known=known,
            unknown=len(numbers) - known,
        )

    def evaluate(
        self,
        split: str = "test",
        *,
        num_results: int = 200,
        beam_width: int | None = None,
        filter_history: bool = False,
    ) -> dict[str, Any]:
        """Returns Precision, Recall and F-Measure@M of held-out users.

        Args:
            split: "test" or "validation".
            num_results: M.
            beam_width: k, twice M if not given.
            filter_history: never return what the user is known to have.
        """
        forking.check()
        users = splits.held_out_users(
            self.data,
            split,
            self.run.model.max_history,
            self.run.settings.profile,
        )
        return judging.judge_model(
            self.run.model,
            users,
            num_results=num_results,
            beam_width=beam_width or 2 * num_results,
            filter_history=filter_history,
        )

    def explore(self, **options: Any) -> Any:
        """Shows a page to try the model: in a notebook, or by its `url`.

        The model is exported to a temporary folder and served from this
        process, on loopback, until `stop` of what is returned, the next call,
        or the end of the process.

        Args:
            **options: `samples`, lists of raw ids by name to start from;
                `height` of the frame in pixels.

        Returns:
            What a notebook shows, with `url` and `stop`.

        Raises:
            ValueError: what serves it is not installed.
        """
        forking.check()
        # The library knows nothing of what is built on it.
        points = importlib.metadata.entry_points(group="jtm_tf.pages")
        try:
            (explore,) = (x.load() for x in points.select(name="explore"))
        except (ImportError, ValueError) as error:
            raise ValueError(
                "The page needs what serves models: pip install "
                f"'jtm_tf[serve]' ({error})."
            ) from error
        if self._page is not None:
            self._page.stop()
        self._page = explore(self.run, **options)
        return self._page

    def _user(self, items, profile):
        """Returns known items and profile values as the model's row."""
        width = self.run.model.max_history
        items = items[-width:]
        user = np.zeros([1, self.run.model.user_width], np.int32)
        user[0, width - len(items) : width] = items
        user[0, width:] = self._profile(profile)
        return user

    def _search(self, beam_width):
        """Returns a traced search that ranks b k items; one for each k."""
        model = self.run.model
        if beam_width not in self._searches:
            # All that the beam scores; a scan would sort a million for it.
            ranked = beam_width * (2 if model.flat else model.branching)
            search = model_search.retriever(
                model,
                num_results=min(ranked, self.data.num_items),
                beam_width=beam_width,
            )
            traced = search.recommend.get_concrete_function()
            self._searches[beam_width] = lambda user: traced(tf.constant(user))
        return self._searches[beam_width]

    def _numbers(self, raw_ids, argument):
        """Returns the items of raw ids, PAD for those unknown, [any] int32."""
        lists = (str, bytes, Mapping)
        if isinstance(raw_ids, lists) or not isinstance(raw_ids, Iterable):
            raise ValueError(
                f"{argument} must be a list of raw ids; got {raw_ids!r}."
            )
        raw_ids = list(raw_ids)
        nested = [x for x in raw_ids if isinstance(x, (list, tuple, set))]
        if nested:
            raise ValueError(
                f"{argument} is of one user, a flat list of raw ids; got "
                f"{nested[0]!r} in it."
            )
        return self.data.item_ids.numbers(raw_ids)

    def _profile(self, values):
        """Returns the codes of profile values, 0 where unknown."""
        columns = self.run.settings.profile
        unknown = set(values) - set(columns)
        if unknown:
            raise ValueError(
                f"The model learned from no profile column {sorted(unknown)}; "
                f"its columns are {list(columns)}."
            )
        codes = []
        for name in columns:
            known = self.data.profile_values(name)
            value = values.get(name)
            codes.append(known.index(value) + 1 if value in known else 0)
        return codes


def fit(
    data: interactions.Interactions,
    out_dir: files.Path,
    *,
    method: str = "jtm",
    rounds: int = 6,
    on_round: Callable[[dict[str, Any]], None] | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Recommender:
    """Learns model and tree together (Algorithm 1) and loads the best round.

    Stopped at any moment and called again, it goes on where it was; of a
    finished run it only loads the model.

    Args:
        data: what `jtm_tf.prepare` or `jtm_tf.load` returns.
        out_dir: the run folder; one of other settings is refused.
        method: row of Table 1, such as "jtm" or "tdm"; see `settings.METHODS`.
        rounds: of Algorithm 1: a model step, then a tree step.
        on_round: called with each round's record as it ends; docs/formats.md
            says what is in it.
        progress: whether to draw bars; by default in a terminal and in a
            notebook.
        **settings: any other flag of `experiments.train`, such as
            `samples_per_epoch=60_000`. Of fewer than 2,000 items a round is
            judged by a tenth of them, `num_results`, at twice the beam.

    Raises:
        ValueError: unknown settings, data that lie in no folder, or
            `out_dir` is another run's.
        FloatingPointError: the loss diverged.
    """
    if not isinstance(data, interactions.Interactions):
        raise ValueError(
            "data must be what jtm_tf.prepare or jtm_tf.load returns; got "
            f"{type(data).__name__}."
        )
    if "joint_iterations" in settings:
        raise ValueError("joint_iterations is called rounds here.")
    if data.folder is None:
        raise ValueError(
            "These data lie in no folder, where the run could find them "
            "again; get them from jtm_tf.prepare or jtm_tf.load."
        )
    few = data.num_items // _ITEMS_A_RESULT
    if few < settings_lib.JointConfig().num_results:
        # Among all items recommended everybody finds everything.
        few = max(1, few)
        settings = {"num_results": few, "beam_width": 2 * few, **settings}
    config = settings_lib.from_flat(
        method=method, joint_iterations=rounds, **settings
    )
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    options = settings_lib.RunOptions(
        data_dir=str(data.folder),
        progress=progress,
        on_record=on_round or (lambda record: None),
    )
    joint.run(config, data, out_dir, options)
    return Recommender.load(pathlib.Path(out_dir), data.folder)
