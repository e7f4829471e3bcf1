"""Tests of `export.client` and `calling.agreement`, on the served model."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from export import serving
from export.artefact import saved_model
from export.artefact import versions
from export.calling import agreement
from export.calling import clients
from export.calling import user_lines
from export.calling import wire
from jtm_tf.data import interactions
from jtm_tf.data import splits
from jtm_tf.runs import trained
from tests.support import close
from tests.support import served_models
from tests.support import shell
from tests.support import worlds

M, BEAM = 5, 8


@pytest.fixture(name="worlds_data", scope="module")
def _worlds_data(tmp_path_factory):
    """Data of integer ids, 0 among them, and of string ids with a profile."""
    folder = worlds.prepare(tmp_path_factory.mktemp("world"))
    data = interactions.load(folder)
    numbers = pa.array(range(served_models.ITEMS), pa.int64())
    names = pa.array([f"Möhre {i}" for i in range(1, served_models.ITEMS + 1)])
    ages = pa.array(
        [("18-24", "65+", None)[i % 3] for i in range(data.num_users)]
    )
    return {
        "numbers": dataclasses.replace(
            data, items=data.items.set_column(1, "raw_id", numbers)
        ),
        "names": dataclasses.replace(
            data,
            items=data.items.set_column(1, "raw_id", names),
            users=data.users.append_column("age group", ages),
        ),
    }


@pytest.fixture(name="runs", scope="module")
def _runs(worlds_data):
    """What `trained.load` would return of two runs."""
    return {
        name: trained.TrainedRun(
            served_models.untrained(
                path_weight=0.5, profile_sizes=(3,) if profile else ()
            ),
            worlds_data[name],
            {"config": {"profile": profile}},
            {},
        )
        for name, profile in (("numbers", []), ("names", ["age group"]))
    }


@pytest.fixture(name="servers", scope="module")
def _servers(runs, tmp_path_factory):
    """A server of each run: (signatures called directly, its addresses)."""
    base = tmp_path_factory.mktemp("served")
    started, found = [], {}
    for name, run in runs.items():
        served = saved_model.ServedModel(
            run.model,
            run.data,
            profile=run.settings.profile,
            config=saved_model.SearchConfig(BEAM, M),
        )
        with versions.publishing(base / name, 4) as folder:
            served.save(folder)
        shutil.copytree(base / name / "4", base / name / "3")
        server = serving.Server(base / name).start()
        started.append(server)
        found[name] = (
            served,
            {
                "target": f"127.0.0.1:{server.grpc_port}",
                "rest": f"http://127.0.0.1:{server.rest_port}",
            },
        )
    yield found
    for server in started:
        server.stop()


def connect(servers, name, protocol):
    """Returns a client of one server."""
    address = {protocol: servers[name][1][protocol]}
    return clients.Client(**address, model=name)


def both(servers, name):
    """Yields a client of each protocol."""
    for protocol in ("target", "rest"):
        with connect(servers, name, protocol) as client:
            yield client


def directly(servers, name, signature, **inputs):
    """Calls the signature without a server."""
    answer = served_models.call(servers[name][0], signature, **inputs)
    if "item_ids" in answer and answer["item_ids"].dtype == object:
        decode = np.vectorize(bytes.decode, otypes=[object])
        answer["item_ids"] = decode(answer["item_ids"])
    return {key: value.tolist() for key, value in answer.items()}


def same(answer, ids, scores):
    """Asserts that an answer is this one, but for ties."""
    close.rankings(answer.ids, answer.scores, ids, scores)


def test_recommend_integers(servers):
    histories = [[17, 4, 0], [], [999, 8]]
    want = directly(
        servers,
        "numbers",
        "recommend",
        history=[[17, 4, 0], [-1, -1, -1], [-1, 999, 8]],
    )
    for client in both(servers, "numbers"):
        answer = client.recommend(histories)
        same(answer, want["item_ids"], want["scores"])
        assert (answer.version, answer.more) == (4, {})
        assert client.recommend(histories, version=3).version == 3
        answer = client.recommend([["17", "4", "0"]])
        same(answer, want["item_ids"][:1], want["scores"][:1])


def test_recommend_strings_with_a_profile(servers):
    histories = [["Möhre 3", "Möhre 9"], ["Möhre 1"]]
    want = directly(
        servers,
        "names",
        "recommend",
        history=[["Möhre 3", "Möhre 9"], ["", "Möhre 1"]],
        profile_age_group=["65+", ""],
    )
    for client in both(servers, "names"):
        answer = client.recommend(histories, profile=[{"age group": "65+"}, {}])
        same(answer, want["item_ids"], want["scores"])


def test_filters_candidates_and_paths(servers):
    histories = [[17, 4], [8]]
    for client in both(servers, "numbers"):
        best = client.recommend(histories)
        fewer = client.recommend(histories, exclude=[best.ids[0][:2], []])
        assert not set(fewer.ids[0]) & set(best.ids[0][:2])
        assert len(fewer.ids[0]) == M
        fewer.ids[0], fewer.scores[0] = best.ids[0], best.scores[0]
        same(fewer, best.ids, best.scores)
        nothing = client.recommend(histories, allow_categories=[["x"], []])
        same(nothing, [[], best.ids[1]], [[], best.scores[1]])

        ranked = client.recommend(
            histories, candidates=[[*best.ids[0], 999], best.ids[1][:1]]
        )
        assert ranked.ids == [[*best.ids[0], 999], best.ids[1][:1]]
        assert ranked.scores[0][-1] is None
        close.scores(ranked.scores[0][:-1], best.scores[0])
        close.scores(ranked.scores[1], best.scores[1][:1])
        why = client.recommend(histories, signature="explain")
        same(why, best.ids, best.scores)
        levels = served_models.untrained().tree.max_level
        for name in ("path_nodes", "path_scores"):
            assert np.shape(why.more[name]) == (2, M, levels)


@pytest.mark.parametrize("protocol", ["target", "rest"])
def test_what_goes_wrong(servers, protocol):
    with connect(servers, "numbers", protocol) as client:
        for asked, message in (
            ({"histories": [["x"]]}, "integers; got .'x'. as history"),
            ({"histories": [[2**63]]}, "does not fit into 64 bits"),
            ({"histories": []}, "one or more; got 0"),
            ({"histories": [[1]], "signature": "rank"}, "it has explain, rec"),
            ({"histories": [[1]], "exclude": [[], []]}, "got 2 and 1"),
            ({"histories": [[1]], "profile": [{"a": "b"}]}, "profile_a"),
            ({"histories": [[1]], "signature": "score"}, "Give the candid"),
        ):
            with pytest.raises(ValueError, match=message):
                client.recommend(**asked)
        with pytest.raises(wire.RefusedError, match="NOT_FOUND|404"):
            client.recommend([[1]], version=99)
    address = {protocol: servers["numbers"][1][protocol]}
    with clients.Client(**address, model="nobody") as client:
        with pytest.raises(wire.RefusedError, match="model nobody at"):
            client.recommend([[1]])
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
        address = {protocol: host if protocol == "target" else f"http://{host}"}
        with clients.Client(**address, model="m") as client:
            with pytest.raises(ConnectionError, match="Is the server running"):
                client.recommend([[1]])
        free.listen()  # and never answers
        if protocol == "rest":
            with clients.Client(**address, model="m", timeout=0.1) as client:
                with pytest.raises(TimeoutError, match="within 0.1 s"):
                    client.recommend([[1]])


def test_one_address_only():
    for address in ({}, {"target": "a:1", "rest": "http://a:1"}):
        with pytest.raises(ValueError, match="one of them"):
            clients.Client(**address, model="m")
    with pytest.raises(ValueError, match="Expected http://HOST:PORT"):
        clients.Client(rest="localhost:8501", model="m")


def test_user_lines():
    users = user_lines.parse(
        [
            "17, 4\n",
            "\n",
            '["a,b", 3]\n',
            '{"history": [1], "exclude": [2], "profile": {"age": "7"}}',
        ]
    )
    assert user_lines.columns(users) == {
        "histories": [["17", "4"], [], ["a,b", 3], [1]],
        "exclude": [[], [], [], [2]],
        "profile": [{}, {}, {}, {"age": "7"}],
    }
    for line, message in (
        ("1,,2", "an id is empty"),
        ('{"histories": [1]}', "got 'histories'"),
        ('{"history": 1}', "history to be a list"),
        ("[1.5]", "history to be a list"),
        ("[true]", "history to be a list"),
        ('{"profile": [1]}', "profile to be a dict"),
        ("{", "Line 2: Expecting"),
    ):
        with pytest.raises(ValueError, match=message):
            user_lines.parse(["1", line])


# Runs the program where only the standard library and absl are.
BARE = """
import runpy, sys
for name in ("jtm_tf.types", "jtm_tf.files", "tensorflow", "numpy", "grpc"):
    sys.modules[name] = None
runpy.run_module("export.client", run_name="__main__")
"""


def bare(*arguments, stdin=""):
    """Runs the program over REST; returns exit status, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, "--model=numbers", *arguments],
        cwd=shell.ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_program(servers):
    """Many users by stdin and in batches, flags for all of them."""
    address = f"--rest={servers['numbers'][1]['rest']}"
    with connect(servers, "numbers", "rest") as client:
        want = client.recommend([[17, 4], [], [8]], exclude=[[4], [4], [9]])
    status, stdout, stderr = bare(
        address,
        "--input=-",
        "--exclude=4",
        "--batch=2",
        stdin='17,4\n\n{"history": [8], "exclude": [9]}\n',
    )
    assert (status, stderr) == (0, "")
    lines = [json.loads(line) for line in stdout.splitlines()]
    close.rankings(
        *([line[key] for line in lines] for key in ("ids", "scores")),
        want.ids,
        want.scores,
    )
    assert {line["version"] for line in lines} == {4}

    error = shell.the_error(bare(address, "--history=1", "--input=-"))
    assert "Give --history or --input" in error
    error = shell.the_error(bare(address, "--history=milk"))
    assert "integers; got ['milk'] as history" in error


@pytest.mark.parametrize("name", ["numbers", "names"])
def test_evaluated_is_served(servers, runs, name):
    for client in both(servers, name):
        result = agreement.compare(
            runs[name],
            client.recommend,
            num_results=M,
            beam_width=BEAM,
            batch_size=4,
        )
        users = splits.held_out_users(
            runs[name].data,
            "test",
            served_models.HISTORY,
            runs[name].settings.profile,
        )
        assert result["users"] == len(users) > 4
        assert (result["different"], result["first"]) == (0, [])
        assert result["versions"] == [4]


def test_a_difference_is_found(servers, runs):
    """The endpoint serves another model than the run's."""
    other = dataclasses.replace(
        runs["numbers"], model=served_models.untrained(seed=1)
    )
    with connect(servers, "numbers", "rest") as client:
        result = agreement.compare(
            other, client.recommend, num_results=M, beam_width=BEAM
        )
    assert 0 < result["different"] <= result["users"]
    first = result["first"][0]
    assert first["evaluated"] != first["served"]
