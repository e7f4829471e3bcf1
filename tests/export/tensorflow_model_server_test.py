"""The real TensorFlow Serving, where its binary is on the PATH."""

import contextlib
import pathlib
import shutil
import socket
import subprocess
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.artefact import saved_model
from export.artefact import versions
from export.artefact import warmup
from jtm_tf.data import interactions
from tests.support import close
from tests.support import served_models
from tests.support import worlds

SERVER = shutil.which("tensorflow_model_server")
CONFIGS = pathlib.Path(warmup.__file__).parents[1] / "tf_serving"
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE

pytestmark = pytest.mark.skipif(
    SERVER is None, reason="tensorflow_model_server is not on the PATH"
)


@pytest.fixture(name="served", scope="module")
def _served(tmp_path_factory):
    """Two versions that answer differently, 1 and 2."""
    data = interactions.load(worlds.prepare(tmp_path_factory.mktemp("world")))
    config = saved_model.SearchConfig(beam_width=8, num_results=5)
    return {
        version: saved_model.ServedModel(
            served_models.untrained(path_weight=weight), data, config=config
        )
        for version, weight in ((1, 0.0), (2, 1.0))
    }


def publish(base, served, version):
    with versions.publishing(base, version) as folder:
        served[version].save(folder)
        made = warmup.requests(served[version])
        warmup.write(folder, made, model_name=base.name)


@contextlib.contextmanager
def serving(base, config, *flags):
    """Starts the server on BASE with one of our models' configurations."""
    text = (CONFIGS / config).read_text()
    folder = base.parent
    (folder / config).write_text(text.replace("/models/jtm", str(base)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            [
                str(SERVER),
                f"--port={port}",
                f"--model_config_file={folder / config}",
                "--allow_version_labels_for_unavailable_models=true",
                f"--monitoring_config_file={CONFIGS / 'monitoring.config'}",
                *flags,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            yield channel
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(channel, version):
    """Waits until a version serves."""
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "jtm"
    for _ in range(120):
        with contextlib.suppress(grpc.RpcError):
            answer = stub.GetModelStatus(request, timeout=10)
            if (version, AVAILABLE) in [
                (x.version, x.state) for x in answer.model_version_status
            ]:
                return
        time.sleep(0.5)
    raise AssertionError(f"version {version} never served")


def recommend(channel, inputs, *, signature="recommend", label=None):
    """Asks the server; returns version, ids and scores."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "jtm"
    request.model_spec.signature_name = signature
    if label:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answer = stub.Predict(request, timeout=30)
    outputs = [
        tf.make_ndarray(answer.outputs[name]) for name in ("item_ids", "scores")
    ]
    return answer.model_spec.version.value, *outputs


def requests():
    """Returns inputs of both signatures."""
    history = np.array([[3, 9, 0, 4], [0, 0, 0, 8]], np.int64)
    filtered = {
        "history": history,
        "exclude": np.array([[1, 2], [8, 0]], np.int64),
        "allow_categories": np.array([[""], [""]], object),
    }
    return {"recommend": {"history": history}, "recommend_filtered": filtered}


def test_answers_and_a_new_version(served, tmp_path):
    base = tmp_path / "jtm"
    publish(base, served, 1)
    batching = CONFIGS / "batching.config"
    with serving(
        base,
        "models.config",
        "--enable_batching=true",
        f"--batching_parameters_file={batching}",
    ) as channel:
        for version in (1, 2):
            if version not in versions.existing(base):
                publish(base, served, version)
            wait_for(channel, version)
            for name, inputs in requests().items():
                want = served_models.call(served[version], name, **inputs)
                got = recommend(channel, inputs, signature=name)
                assert got[0] == version
                close.rankings(*got[1:], want["item_ids"], want["scores"])
        wide = {"history": np.ones([1, 1025], np.int64)}
        with pytest.raises(grpc.RpcError) as refused:
            recommend(channel, wide)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "at most 1024 columns" in refused.value.details()


def test_labels(served, tmp_path):
    base = tmp_path / "jtm"
    for version in (1, 2):
        publish(base, served, version)
    inputs = requests()["recommend"]
    with serving(base, "labels.config") as channel:
        for version, label in ((1, "stable"), (2, "canary")):
            wait_for(channel, version)
            got = recommend(channel, inputs, label=label)
            assert got[0] == version
            want = served_models.call(served[version], "recommend", **inputs)
            close.rankings(*got[1:], want["item_ids"], want["scores"])
