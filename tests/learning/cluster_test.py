"""Tests of training by a cluster: what it must equal, and what it survives."""

import json
import pathlib
import socket
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from jtm_tf import files
from jtm_tf.data import splits
from jtm_tf.learning import cluster
from jtm_tf.learning import model_step
from jtm_tf.learning import remote_step
from jtm_tf.learning import settings
from jtm_tf.learning import work_files
from jtm_tf.models import tree_model
from jtm_tf.runs import folder as run_folder
from jtm_tf.tree import initial
from tests.support import runs
from tests.support import shell

HOSTS = {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}
# A run of two rounds and seconds.
FLAGS = (
    "--as_published",
    "--joint_iterations=2",
    "--embedding_dim=4",
    "--windows=3,1",
    "--hidden=8",
    "--num_results=5",
    "--beam_width=8",
    "--cuts=5:4",
    "--batch_size=64",
    "--negatives=12",
    "--learning_rate=3e-3",
    "--branching=4",
    "--gap=2",
)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        {"cluster": HOSTS},
        {"cluster": HOSTS, "task": {"type": "evaluator", "index": 0}},
        {"cluster": HOSTS, "task": {"type": "ps", "index": 1}},
        {"cluster": HOSTS, "task": {"type": "ps", "index": "0"}},
        {
            "cluster": {**HOSTS, "ps": []},
            "task": {"type": "worker", "index": 0},
        },
        {
            "cluster": {**HOSTS, "ps": ["nowhere"]},
            "task": {"type": "worker", "index": 0},
        },
        {
            "cluster": {**HOSTS, "chief": ["a:1", "a:2"]},
            "task": {"type": "worker", "index": 0},
        },
    ],
)
def test_a_cluster_that_is_none(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="from TF_CONFIG, such as"):
        cluster.task()


@pytest.mark.parametrize(
    "text, one",
    [
        (None, True),
        ("", True),
        ("{}", True),
        ('{"cluster": {"chief": ["a:1"]}}', True),
        (json.dumps({"cluster": HOSTS}), False),
        ("{", False),  # which is to be told
        ('{"cluster": ["a:1"]}', False),
    ],
)
def test_whether_there_are_others(text, one, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    assert cluster.is_one() == one


def test_a_cluster(monkeypatch):
    found = {"cluster": HOSTS, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(found))
    assert cluster.task() == found


def test_arrays_in_files(tmp_path):
    arrays = {
        "items": np.arange(6, dtype=np.int32),
        "starts": np.array([2**40], np.int64),
        "taken": np.array([True, False]),
        "profile": np.arange(8, dtype=np.int32).reshape(4, 2),
    }
    layout = work_files.write(tmp_path / "one", arrays)
    read = tf.function(lambda folder: work_files.read(folder, layout))
    found = read(tf.constant(str(tmp_path / "one")))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    changed = {name: array[:0] for name, array in arrays.items()}
    work_files.write(tmp_path / "one", changed)  # they are there already
    assert len(read(tf.constant(str(tmp_path / "one")))["items"]) == 6


def examples(users=7, rows=9):
    """Returns samples of users of different lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, rows, users)
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = rng.integers(1, 30, lengths.sum()).astype(np.int32)
    profile = rng.integers(0, 3, (len(items), 2)).astype(np.int32)
    return splits.Examples(items, starts, np.arange(len(items)), profile)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_shards_are_the_samples(count):
    """Each sample is in one part, with the same history, profile and end."""
    whole = examples()
    whole = whole.take(np.random.default_rng(1).permutation(len(whole)))
    parts = whole.shards(count)
    assert 1 <= len(parts) <= count
    owners = [set(part.ends - part.starts) for part in parts]
    assert all(owners)
    seen = []
    for part in parts:
        users = part.histories(np.arange(len(part)), 5)
        left = part.ends - part.targets
        seen += zip(map(tuple, users), left, part.target_items())
        assert len(part.items) <= len(whole.items)
    users = whole.histories(np.arange(len(whole)), 5)
    left = whole.ends - whole.targets
    want = list(zip(map(tuple, users), left, whole.target_items()))
    assert sorted(seen) == sorted(want)
    if count == 1:
        assert seen == want  # in order too


def test_a_table_in_pieces_trains_as_one():
    samples = examples(40, 12)
    tree = initial.random(29, branching=2, seed=0)
    config = settings.TrainingConfig(batch_size=32, negatives=12)
    losses, models = [], []
    for shards in (1, 3):
        tf.random.set_seed(0)
        model = tree_model.TreeModel(
            29,
            tree.max_level,
            embedding_dim=4,
            windows=(3, 1),
            hidden=(8,),
            profile_sizes=(3, 3),
            table_shards=shards,
        )
        model.set_tree(tree)
        if models:
            model.embedding.assign(models[0].embedding.numpy())
            for mine, other in zip(_dense(model), _dense(models[0])):
                mine.assign(other)
        models.append(model)
    for model in models:
        trainer = model_step.Trainer(model, samples, config, seed=0, epochs=2)
        found = []
        trainer.train_epoch(lambda x, found=found: found.append(x.numpy()))
        trainer.set_tree(initial.random(29, branching=2, seed=1), inner="shift")
        trainer.train_epoch(lambda x, found=found: found.append(x.numpy()))
        losses.append(found)
        assert int(trainer.optimizer.iterations.numpy()) == len(found)
    np.testing.assert_allclose(*losses, rtol=1e-5)
    tables = [model.embedding.numpy() for model in models]
    np.testing.assert_allclose(*tables, atol=1e-5)


def _dense(model):
    """Returns the variables beside the table."""
    return [*model.scorer.weights, *model.profile.weights]


def test_a_file_knows_nothing_of_pieces(tmp_path):
    models = [
        tree_model.TreeModel(29, 5, embedding_dim=4, table_shards=shards)
        for shards in (3, 1, 2)
    ]
    models[0].save_weights(tmp_path / "x.weights.h5")
    for model in models[1:]:
        model.load_weights(tmp_path / "x.weights.h5")
        np.testing.assert_array_equal(
            model.embedding.numpy(), models[0].embedding.numpy()
        )
    again = tree_model.TreeModel.from_config(models[0].get_config())
    assert len(again.embedding.tables) == 1


def metrics(run):
    return json.loads((pathlib.Path(run) / "metrics.json").read_text())


@pytest.fixture(name="shared", scope="module")
def _shared(tmp_path_factory):
    return runs.shared(tmp_path_factory)


@pytest.fixture(name="data")
def _data(shared):
    return shared[0]


@pytest.fixture(name="single")
def _single(shared):
    """The metrics of the run of FLAGS on one machine."""
    return metrics(shared[1])


def layout_of(calls_of=4, **changes):
    """Returns what a trainer knows of how an epoch is cut."""
    return types.SimpleNamespace(
        _cluster=types.SimpleNamespace(steps_per_call=calls_of),
        _steps=lambda length: -(-length // 8),
        **changes,
    )


@pytest.mark.parametrize("lengths", [[100, 61, 7], [9], [64, 64], [33, 0, 80]])
def test_a_run_that_goes_on_misses_no_step_and_takes_none_twice(lengths):
    """Wherever in an epoch it stopped."""
    trainer = layout_of()

    def steps(skipped):
        calls = remote_step.RemoteTrainer._in_turn(trainer, lengths, skipped)
        for shard, length, first, last in calls:
            assert length == lengths[shard]
            yield from ((shard, step) for step in range(first, last))

    whole = list(steps(0))
    assert sorted(whole) == [
        (shard, step)
        for shard, length in enumerate(lengths)
        for step in range(-(-length // 8))
    ]
    for skipped in range(len(whole) + 1):
        assert list(steps(skipped)) == whole[skipped:]


def test_in_the_middle_of_an_epoch_its_layout_stays():
    keep = remote_step.RemoteTrainer._keep_layout
    trainer = layout_of(layout=tf.Variable([0, 0], dtype=tf.int64))
    keep(trainer, 3, 0)
    keep(trainer, 3, 17)
    with pytest.raises(
        ValueError, match="into 3 files .* now there are 4 and 4"
    ):
        keep(trainer, 4, 17)
    trainer._cluster.steps_per_call = 5
    with pytest.raises(ValueError, match="steps_per_call=4; now .* 3 and 5"):
        keep(trainer, 3, 1)
    keep(trainer, 4, 0)  # at its beginning all is free
    assert trainer.layout.numpy().tolist() == [4, 5]


def rehearse(data, out, *flags, checkpoint_seconds=120, pool="here"):
    """Rehearses a run; returns what the program said."""
    train = [
        *FLAGS,
        "--steps_per_call=4",
        f"--checkpoint_seconds={checkpoint_seconds}",
    ]
    status, stdout, stderr = shell.run(
        "experiments.rehearse_cluster",
        f"--data_dir={data}",
        f"--out_dir={out}",
        f"--train_flags={' '.join(train)}",
        f"--pool={pool}",
        *flags,
    )
    assert status == 0, stderr
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.mark.slow
def test_one_worker_is_one_machine(data, single, tmp_path):
    """Of one worker and one server all steps come one after the other."""
    tested, became = rehearse(
        data, tmp_path / "run", "--workers=1", "--ps=1", "--kill="
    )
    found = metrics(tmp_path / "run")
    for mine, other in zip(found["iterations"], single["iterations"]):
        np.testing.assert_allclose(
            mine["level_losses"], other["level_losses"], rtol=2e-5
        )
    assert tested == found["test"]
    assert became["left_badly"] == []


@pytest.mark.slow
def test_hosts_are_one_machine(data, single, tmp_path):
    """A third of each batch each; when one is lost all begin again."""
    rehearse(
        data,
        tmp_path / "run",
        "--strategy=mirrored",
        "--kill=worker,chief",
        "--within=1",
        checkpoint_seconds=0,
    )
    found = metrics(tmp_path / "run")
    for mine, other in zip(
        found["iterations"], single["iterations"], strict=True
    ):
        np.testing.assert_allclose(
            mine["level_losses"], other["level_losses"], rtol=1e-4
        )


@pytest.mark.parametrize(
    "kills, seed",
    [
        ("worker,ps", 0),
        *(("worker,ps,chief", seed) for seed in (1, 2, 3)),
        *(("actor,driver", seed) for seed in (1, 2, 3)),
    ],
)
@pytest.mark.slow
def test_who_is_lost(kills, seed, data, single, tmp_path, monkeypatch):
    """A worker's steps are another's, as an actor's work is; of others all
    begin again, from the last checkpoint. The loss falls as far."""
    pool = "here"
    if "actor" in kills:
        pytest.importorskip("ray", reason="needs the extra `cluster`")
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token in HOME
        pool = "ray"
    _, became = rehearse(
        data,
        tmp_path / "run",
        f"--kill={kills}",
        f"--seed={seed}",
        "--within=1",
        checkpoint_seconds=0,
        pool=pool,
    )
    assert became["killed"] == kills.split(",")
    assert became["left_badly"] == []
    found = metrics(tmp_path / "run")
    assert "test" in found and len(found["iterations"]) == 2
    for mine, other in zip(found["iterations"], single["iterations"]):
        assert mine["loss"] == pytest.approx(other["loss"], rel=0.1)


@pytest.mark.slow
def test_files_teach_the_same_tree(data, single, tmp_path):
    out = tmp_path / "run"
    status, _, stderr = shell.run(
        "experiments.train",
        "--method=jtm",
        f"--data_dir={data}",
        f"--out_dir={out}",
        "--pool=serial",
        *FLAGS,
    )
    assert status == 0, stderr
    for mine, other in zip(metrics(out)["iterations"], single["iterations"]):
        assert mine["moved_items"] == other["moved_items"]
        np.testing.assert_allclose(
            mine["level_losses"], other["level_losses"], rtol=1e-4
        )
    assert not (out / "samples").exists()


def test_an_address_of_nobody(data, tmp_path):
    error = shell.the_error(
        shell.run(
            "experiments.train",
            "--method=jtm",
            f"--data_dir={data}",
            f"--out_dir={tmp_path / 'run'}",
            "--ray_address=auto",
        )
    )
    assert "--ray_address is of --pool=ray" in error


@pytest.mark.parametrize(
    "flags, error",
    [
        (
            ["--kill=worker,king"],
            "--kill takes worker, ps, chief, actor, driver; got king",
        ),
        (
            ["--strategy=mirrored", "--kill=ps"],
            "With --strategy=mirrored there is no ps to --kill",
        ),
        (
            ["--pool=serial", "--kill=actor"],
            "of --pool=ray; got --pool=serial --kill=actor",
        ),
    ],
)
def test_who_cannot_be_killed(flags, error, data, tmp_path):
    assert error in shell.the_error(
        shell.run(
            "experiments.rehearse_cluster",
            f"--data_dir={data}",
            f"--out_dir={tmp_path / 'run'}",
            *flags,
        )
    )


@pytest.mark.parametrize(
    "strategy, role",
    [
        ("parameter_server", "chief"),
        ("parameter_server", "worker"),
        ("mirrored", "worker"),
    ],
)
def test_of_a_finished_run_nobody_waits(strategy, role, shared, monkeypatch):
    """Not for others, who are not there."""
    hosts = {name: ["127.0.0.1:1"] for name in ("chief", "worker", "ps")}
    if strategy == "mirrored":
        del hosts["ps"]
    if role == "worker":
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            hosts[role] = [f"127.0.0.1:{plug.getsockname()[1]}"]
    found = {"cluster": hosts, "task": {"type": role, "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(found))
    data, run = shared
    status, stdout, stderr = shell.run(
        "experiments.train",
        "--method=jtm",
        f"--data_dir={data}",
        f"--out_dir={run}",
        f"--strategy={strategy}",
        *FLAGS,
    )
    assert status == 0, stderr
    if role == "chief":
        assert json.loads(stdout) == metrics(run)["test"]


def test_who_served_the_chief_before_leaves(shared, tmp_path, monkeypatch):
    """Though a chief answers all the time."""
    run = run_folder.RunFolder(tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as chief:
        with socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            own = f"127.0.0.1:{plug.getsockname()[1]}"
        hosts = {
            "chief": [f"127.0.0.1:{chief.getsockname()[1]}"],
            "worker": [own],
            "ps": ["127.0.0.1:1"],
        }
        found = {"cluster": hosts, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(found))
        files.write_json(run.chief, {"chief": "one"})
        program = shell.Program(
            "experiments.train",
            "--method=jtm",
            f"--data_dir={shared[0]}",
            f"--out_dir={run.path}",
            "--strategy=parameter_server",
            *FLAGS,
        )
        chief.accept()[0].close()  # it has seen the chief
        time.sleep(3)
        run.chief.unlink()  # for a moment it cannot be read
        time.sleep(2)
        assert program.process.is_alive()
        files.write_json(run.chief, {"chief": "two"})
        status, _, stderr = program.result()
        assert status == 1
        assert "has begun anew" in stderr.splitlines()[-1]


def test_rules_have_no_steps(data, tmp_path):
    error = shell.the_error(
        shell.run(
            "experiments.train",
            "--method=popular",
            f"--data_dir={data}",
            f"--out_dir={tmp_path / 'run'}",
            "--strategy=parameter_server",
        )
    )
    assert "is not trained by steps" in error


_TWO_DEVICES = """
import json, sys
import tensorflow as tf
from jtm_tf.data import interactions
from jtm_tf.learning import joint, settings
from tests.support import runs

cpu, = tf.config.list_physical_devices("CPU")
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
joint.run(
    runs.TINY,
    interactions.load(sys.argv[1]),
    sys.argv[2],
    settings.RunOptions(mirrored=strategy),
)
"""


@pytest.mark.slow
def test_two_devices_are_one(data, single, tmp_path):
    """Half a batch each, and an odd one at the end, are the step of one."""
    status, _, stderr = shell.run_cold(
        "-c", _TWO_DEVICES, str(data), str(tmp_path / "two")
    )
    assert status == 0, stderr
    found, want = metrics(tmp_path / "two"), single
    np.testing.assert_allclose(
        found["iterations"][0]["level_losses"],
        want["iterations"][0]["level_losses"],
        rtol=1e-4,
    )
    assert found["iterations"][1]["loss"] == pytest.approx(
        want["iterations"][1]["loss"], rel=0.01
    )


@pytest.mark.parametrize(
    "said, gist",
    [
        ("Socket closed\nAdditional GRPC error", "says: Socket closed"),
        (
            "Graph execution error:\n\nDetected at node x defined at\n  File y"
            "\n\nCollective ops is aborted by: worker 1\n\t [[x]]",
            "says: Collective ops is aborted by: worker 1",
        ),
        ("", "says: UnavailableError"),
    ],
)
def test_a_loss_is_told_in_a_line(said, gist, tmp_path):
    """TensorFlow may say first where in the graph it was, in many lines."""
    with (
        pytest.raises(OSError, match="A machine is lost. Start all") as told,
        cluster.losses_told("A machine", tmp_path),
    ):
        raise tf.errors.UnavailableError(None, None, said)
    assert str(told.value).endswith(gist)
    with (
        pytest.raises(OSError, match=f"must see {tmp_path} under this name"),
        cluster.losses_told("A machine", tmp_path),
    ):
        raise tf.errors.NotFoundError(None, None, "no such file")
