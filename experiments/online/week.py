"""A week of a shop: by day people come, by night models learn of it.

Every person is in a bucket by a hash; a few small buckets are served by the
methods to compare, and all others by Item-CF, as the first of the small ones
is. A night ends with what the next day needs, in a file: a program that was
stopped goes on with the day that it was in.
"""

import contextlib
import dataclasses
import pathlib
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging

from experiments.online import histories as histories_lib
from experiments.online import measures
from experiments.online import people as people_lib
from experiments.online import served
from experiments.online import shop as shop_lib
from experiments.runs import launch
from jtm_tf import files
from jtm_tf.data.preparing import prepare
from jtm_tf.types import PAD

# The methods behind endpoints, as experiments.train knows them.
METHODS = {
    "tdm": "--method=tdm --as_published",
    "jtm_published": "--method=jtm --as_published",
    "jtm": "--method=jtm",
}
# Served by Item-CF: the control, and once more, which shows the noise.
CONTROL, AGAIN = "item_cf", "item_cf_again"
BUCKETS = (CONTROL, AGAIN, *METHODS)

_DAY = 86_400
_START = 1_700_000_000 // _DAY * _DAY
# Lists of a day that the ranking stage learns from.
_LESSONS = 20_000
# Visits that are served at a time.
_VISITS = 4096
# Days for which an item is new.
_NEW_DAYS = 3
# Share of the people who pick the best round, and as many who test it.
_JUDGES = 0.02


@dataclasses.dataclass(frozen=True)
class Config:
    """What is simulated.

    Attributes:
        people: U.
        items: N, of which some are launched or go in the course of the week.
        days: that are measured; before the first is one on which Item-CF
            serves all, so that the ranking stage has something to learn from.
        slots: parts of a day, after each of which histories are longer.
        past: items that a person has on average before the first day.
        past_days: over which those lie.
        late: share of the items that are launched on one of the days.
        gone: share of the items that go on one of them.
        bucket_share: share of the people in each of the small buckets.
        buckets: which of `BUCKETS`.
        max_history: T, newest items of a person that a service is told.
        train_flags: of experiments.train, for all methods.
        first_flags: more for the first night, which starts from nothing.
        habits: of the people.
        shop: how it serves.
        seed: of all that is drawn.

    Raises:
        ValueError: a bucket is unknown, or they are too many.
    """

    people: int = 20_000
    items: int = 20_000
    days: int = 7
    slots: int = 4
    past: float = 20.0
    past_days: int = 30
    late: float = 0.07
    gone: float = 0.03
    bucket_share: float = 0.02
    buckets: tuple[str, ...] = BUCKETS
    max_history: int = 69
    train_flags: str = (
        "--samples_per_epoch=50000 --max_samples_per_item=5 --gap=4 "
        "--histories_per_user=4 --num_results=50 --beam_width=100 --cuts="
    )
    first_flags: str = "--joint_iterations=3 --tree_steps=2"
    habits: people_lib.Habits = people_lib.Habits()
    shop: shop_lib.Config = shop_lib.Config()
    seed: int = 0

    def __post_init__(self):
        unknown = set(self.buckets) - set(BUCKETS)
        if unknown or CONTROL not in self.buckets:
            raise ValueError(
                f"buckets are of {', '.join(BUCKETS)}, {CONTROL} among them; "
                f"got {', '.join(self.buckets)}."
            )
        if not 0 < self.bucket_share * len(self.buckets) <= 1:
            raise ValueError(
                f"{len(self.buckets)} buckets of a share {self.bucket_share} "
                "each are more than all people, or none."
            )


def bucket_of(people: int, buckets: int, share: float, seed: int) -> np.ndarray:
    """Returns each person's bucket, -1 outside of all, [U] int.

    By a hash of the person (SplitMix64), so that nobody need be told.
    """
    x = np.arange(people, dtype=np.uint64)
    with np.errstate(over="ignore"):
        x += np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * seed + 1)
        for shift, factor in (
            (30, 0xBF58476D1CE4E5B9),
            (27, 0x94D049BB133111EB),
        ):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x ^= x >> np.uint64(31)
    place = (x / 2.0**64 / share).astype(int)
    return np.where(place < buckets, place, -1)


@dataclasses.dataclass
class _State:
    """What a morning begins with.

    Attributes:
        people: with their generator.
        histories: their newest items.
        log: chunks of (persons, items, seconds).
        ranking: of yesterday.
        day: the one that begins.
        nights_done: nights behind it; as many as `day` when that one's is.
        visits: by day and bucket, persons, lists and clicks.
        nights: what the nights of each method were like.
        failed: requests without an answer, by method.
    """

    people: people_lib.People
    histories: histories_lib.Histories
    log: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ranking: shop_lib.Ranking
    day: int = 0
    nights_done: int = 0
    visits: list[dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]] = (
        dataclasses.field(default_factory=list)
    )
    nights: dict[str, list[dict[str, Any]]] = dataclasses.field(
        default_factory=dict
    )
    failed: dict[str, int] = dataclasses.field(default_factory=dict)


class Week:
    """Simulates a week.

    Args:
        config: see there.
        folder: of everything that is made; of the same week, if it was begun.
        jobs: methods whose nights are at the same time, which share the cores.

    Raises:
        ValueError: the folder holds another week.
    """

    def __init__(self, config: Config, folder: pathlib.Path, *, jobs: int = 1):
        self._config, self._folder, self._jobs = config, folder, jobs
        self._file = folder / "morning.pickle"
        draw = np.random.default_rng((config.seed, 1))
        self._launch, self._end = _lives(config, draw)
        self._bucket = bucket_of(
            config.people,
            len(config.buckets),
            config.bucket_share,
            config.seed,
        )
        missing = set(range(len(config.buckets))) - set(self._bucket.tolist())
        if missing:
            names = ", ".join(config.buckets[x] for x in sorted(missing))
            raise ValueError(
                f"Of {config.people} people none is in the buckets of {names}; "
                "take more people or a larger bucket_share."
            )
        self._state = self._begin()

    def run(self) -> dict[str, Any]:
        """Goes through the days that are left; returns the report."""
        config = self._config
        with contextlib.ExitStack() as stack:
            services = self._services(stack)
            while self._state.day <= config.days:
                day = self._state.day
                if day > self._state.nights_done:
                    self._night(day, services)
                    self._state.nights_done = day
                    self._save(services)
                self._day(day, services)
                self._state.day += 1
                self._save(services)
                logging.info("Day %d is over.", day)
        return self._report()

    def _begin(self):
        """Returns the state of the folder, or that of the first morning."""
        config = self._config
        if self._file.exists():
            with open(self._file, "rb") as stream:
                known, state = pickle.load(stream)
            if known != config:
                raise ValueError(
                    f"{self._folder} holds a week of other settings; choose "
                    "another folder, or delete it."
                )
            logging.info("Going on with day %d.", state.day)
            return state
        people = people_lib.People(
            config.people, config.items, config.habits, config.seed
        )
        state = _State(
            people,
            histories_lib.Histories(config.people, config.max_history),
            [],
            shop_lib.Ranking(config.shop.penalty),
        )
        mean = config.past / config.past_days
        for day in range(-config.past_days, 0):
            who, items = people.find(self._available(0), mean)
            state.histories.add(who, items)
            state.log.append((who, items, _seconds(day, 0, len(who))))
        return state

    def _services(self, stack):
        """Returns the method of each bucket that has one."""
        names = [name for name in self._config.buckets if name in METHODS]
        workers = min(self._jobs, len(names))
        services = {
            name: served.Served(
                self._folder / name, METHODS[name], stack, workers
            )
            for name in names
        }
        if self._state.nights_done:
            for name, service in services.items():
                service.failed = self._state.failed.get(name, 0)
                service.serve()
        return services

    def _available(self, day):
        """Returns which items can be had on a day, [N + 1] bool."""
        there = (self._launch <= day) & (day < self._end)
        there[PAD] = False
        return there

    def _night(self, day, services):
        """Has people change, and the methods learn of yesterday."""
        state, config = self._state, self._config
        state.people.night()
        if not services:
            return
        data_dir = self._folder / "data" / str(day)
        self._prepare(day, data_dir)
        asks = state.histories.newest[:1000]
        flags = config.train_flags
        if day == 1:
            flags = f"{flags} {config.first_flags}"
        with launch.together(self._jobs) as pool:
            nights = {
                name: pool.submit(service.night, day, data_dir, asks, flags)
                for name, service in services.items()
            }
            records = {name: night.result() for name, night in nights.items()}
        for name, record in records.items():
            state.nights.setdefault(name, []).append(record)
            logging.info("Night before day %d, %s: %s", day, name, record)
            services[name].serve()

    def _prepare(self, day, data_dir):
        """Prepares the log as it is, of items that can still be had."""
        who, items, seconds = self._log()
        there = self._available(day)[items]
        who, items, seconds = who[there], items[there], seconds[there]
        table = pa.table(
            {
                "user": who,
                "item": items,
                "timestamp": seconds,
                "category": pa.array(
                    self._state.people.paths[items - 1], pa.string()
                ),
            }
        )
        prepare.prepare(
            table,
            data_dir,
            min_interactions=2,
            # Just enough to pick the best round by.
            validation_share=_JUDGES,
            test_share=_JUDGES,
            overwrite=True,
        )

    def _log(self):
        """Returns persons, items and seconds of all rows so far."""
        return tuple(np.concatenate(column) for column in zip(*self._state.log))

    def _day(self, day, services):
        """Lets people come, in slots, and notes what they did."""
        state, config = self._state, self._config
        available = self._available(day)
        who, items, seconds = self._log()
        shop = shop_lib.Shop(
            config.shop,
            state.people.paths,
            available,
            (who, items, (seconds - _START) // _DAY),
            day,
        )
        finders, found = state.people.find(available)
        visitors = state.people.visitors()
        lists = np.zeros((0, config.shop.shown), int)
        nobody = np.zeros(0, int), lists, lists.astype(bool)
        seen = {name: [nobody] for name in config.buckets}
        lessons: list[tuple[np.ndarray, np.ndarray]] = []
        for slot, (comes, takes) in enumerate(
            zip(
                np.array_split(visitors, config.slots),
                np.array_split(np.arange(len(found)), config.slots),
            )
        ):
            acted = [(finders[takes], found[takes])]
            for bucket in (*range(len(config.buckets)), -1):
                here = comes[self._bucket[comes] == bucket]
                # Outside, and on the day before the first: Item-CF.
                name = config.buckets[bucket] if bucket >= 0 else CONTROL
                source = services.get(name) if day else None
                for begin in range(0, len(here), _VISITS):
                    people = here[begin : begin + _VISITS]
                    shown, clicks, features = self._serve(shop, people, source)
                    if bucket >= 0:
                        seen[name].append((people, shown, clicks))
                    lessons.append((features, clicks))
                    rows, columns = np.nonzero(clicks)
                    acted.append((people[rows], shown[rows, columns]))
            people, items = (np.concatenate(x) for x in zip(*acted))
            state.histories.add(people, items)
            state.log.append((people, items, _seconds(day, slot, len(people))))
        self._learn(lessons)
        if day:
            state.visits.append(
                {
                    name: tuple(np.concatenate(x) for x in zip(*parts))
                    for name, parts in seen.items()
                }
            )

    def _serve(self, shop, people, source):
        """Shows people a list each.

        Returns:
            Items shown, [V, K], PAD where there are fewer, clicks on them,
            and what the ranking stage saw, [V, K, F].
        """
        state, config = self._state, self._config
        newest = state.histories.newest[people]
        count = config.shop.retrieved
        if source is None:
            retrieved, _ = shop.cf.recommend(newest, count)
        else:
            retrieved = source.retrieve(newest, count)
        candidates = shop.candidates(newest, retrieved)
        features = shop.features(newest, candidates)
        worth = state.ranking.chances(features) * state.people.bids[candidates]
        shown, columns = shop_lib.best(candidates, worth, config.shop.shown)
        clicks = state.people.click(people, shown)
        features = np.take_along_axis(features, columns[..., None], 1)
        return shown, clicks, features

    def _learn(self, lessons):
        """Has the ranking stage learn from today's lists."""
        features, clicks = (np.concatenate(x) for x in zip(*lessons))
        draw = np.random.default_rng((self._config.seed, 2, self._state.day))
        some = draw.permutation(len(clicks))[:_LESSONS]
        self._state.ranking.learn(features[some], clicks[some])

    def _save(self, services):
        """Writes what a program that is started again begins with."""
        self._state.failed = {name: x.failed for name, x in services.items()}
        with files.replacing(self._file) as temporary:
            with open(temporary, "wb") as stream:
                pickle.dump((self._config, self._state), stream)

    def _report(self):
        """Returns the figures of the week as JSON values."""
        state, config = self._state, self._config
        bids = state.people.bids
        traffic = {
            name: measures.per_person(
                *(
                    np.concatenate([day[name][i] for day in state.visits])
                    for i in range(3)
                ),
                bids,
            )
            for name in config.buckets
        }
        return {
            "buckets": {
                name: measures.summary(of)
                | (
                    {"over_control": measures.lift(of, traffic[CONTROL])}
                    if name != CONTROL
                    else {}
                )
                | {"days": self._days(name)}
                for name, of in traffic.items()
            },
            "nights": state.nights,
            "nights_at_a_time": self._jobs,
            "failed_requests": state.failed,
        }

    def _days(self, name):
        """Returns a bucket's figures by day."""
        days = []
        for day, visits in enumerate(self._state.visits, 1):
            people, shown, clicks = visits[name]
            of = measures.per_person(
                people, shown, clicks, self._state.people.bids
            )
            available = self._available(day)
            new = available & (self._launch > max(0, day - _NEW_DAYS))
            days.append(
                {"ctr": round(of.ctr, 6), "rpm": round(of.rpm, 4)}
                | measures.breadth(shown, clicks, new, int(available.sum()))
            )
        return days


def _seconds(day, slot, rows):
    """Returns a time for each row, ascending within a slot of a day."""
    begin = _START + day * _DAY + slot * 3600
    return begin + np.arange(rows) * 3600 // max(rows, 1)


def _lives(config, draw):
    """Returns the days on which items are launched and gone, [N + 1] each."""
    launch = np.zeros(config.items + 1, int)
    end = np.full(config.items + 1, config.days + 1)
    order = draw.permutation(config.items) + 1
    late = order[: round(config.late * config.items)]
    gone = order[::-1][: round(config.gone * config.items)]
    launch[late] = 1 + np.arange(len(late)) % max(config.days, 1)
    end[gone] = 1 + np.arange(len(gone)) % max(config.days, 1)
    return launch, end
