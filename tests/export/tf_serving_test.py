"""Tests of export/tf_serving: each file is read, and they agree.

The wheel of tensorflow-serving-api has the messages of models.config, not
those of the other two; these are declared here, by their published fields.
"""

import pathlib
import re
import shlex

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from export.artefact import warmup

FOLDER = pathlib.Path(warmup.__file__).parents[1] / "tf_serving"

_FIELD = descriptor_pb2.FieldDescriptorProto


def message(name, fields):
    """Declares a message of {field: (number, type or wrapper, repeated)}."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package="declared",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    declared = file.message_type.add(name=name)
    for field, (number, kind, repeated) in fields.items():
        added = declared.field.add(name=field, number=number)
        added.label = (
            _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
        )
        if isinstance(kind, str):
            added.type = _FIELD.TYPE_MESSAGE
            added.type_name = kind
        else:
            added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"declared.{name}")
    )()


def read(name, into):
    return text_format.Parse((FOLDER / name).read_text(), into)


def models(name):
    config = read(name, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    return model


def flags():
    """Returns the flags of the server with its variables at CONFIG=models."""
    text = (FOLDER / "compose.yaml").read_text()
    command = re.search(r"command: >-\n((?: {6}.*\n)+)", text).group(1)
    command = re.sub(r"\$\{CONFIG:-(\w+)\}", r"\1", command)
    command = re.sub(r"\$\{BATCHING:\+([^}]*)\}", r"\1", command)
    assert "$" not in command
    pairs = [flag.split("=", 1) for flag in shlex.split(command)]
    return dict(pairs), text


def test_models():
    newest, labelled = models("models.config"), models("labels.config")
    assert newest.model_version_policy.latest.num_versions == 1
    assert not newest.version_labels
    assert (newest.name, newest.base_path) == (
        labelled.name,
        labelled.base_path,
    )
    assert set(labelled.version_labels) == {"stable", "canary"}
    served = labelled.model_version_policy.specific.versions
    assert set(labelled.version_labels.values()) == set(served)


def test_rollback_as_it_is_described():
    text = (FOLDER / "models.config").read_text()
    (policy,) = re.findall(r"^# +(model_version_policy .*)$", text, re.M)
    model = text_format.Parse(policy, model_server_config_pb2.ModelConfig())
    assert list(model.model_version_policy.specific.versions) == [6]


def test_batching():
    number = ".google.protobuf.Int64Value"
    config = read(
        "batching.config",
        message(
            "BatchingParameters",
            {
                "max_batch_size": (1, number, False),
                "batch_timeout_micros": (2, number, False),
                "max_enqueued_batches": (3, number, False),
                "num_batch_threads": (4, number, False),
                "allowed_batch_sizes": (6, _FIELD.TYPE_INT64, True),
                "pad_variable_length_inputs": (7, _FIELD.TYPE_BOOL, False),
            },
        ),
    )
    assert config.max_batch_size.value >= max(warmup.BATCHES)
    assert config.num_batch_threads.value > 0
    assert config.max_enqueued_batches.value > 0
    # TensorFlow Serving pads with the first value of a request, see the file.
    assert not config.pad_variable_length_inputs
    assert not config.allowed_batch_sizes


def test_monitoring():
    text = (FOLDER / "monitoring.config").read_text()
    (inner,) = re.findall(r"^prometheus_config \{(.*)\}$", text, re.M | re.S)
    config = text_format.Parse(
        inner,
        message(
            "PrometheusConfig",
            {
                "enable": (1, _FIELD.TYPE_BOOL, False),
                "path": (2, _FIELD.TYPE_STRING, False),
            },
        ),
    )
    assert config.enable
    assert config.path == "/monitoring/prometheus/metrics"


def test_names_and_paths_agree():
    command, compose = flags()
    for flag, file in (
        ("model_config_file", "models.config"),
        ("monitoring_config_file", "monitoring.config"),
        ("batching_parameters_file", "batching.config"),
    ):
        assert command[f"--{flag}"] == f"/config/{file}"
    assert command["--enable_batching"] == "true"
    # Labels of versions that load while the server starts.
    assert command["--allow_version_labels_for_unavailable_models"] == "true"
    model = models("models.config")
    assert f"target: {model.base_path}\n" in compose
    assert model.base_path == f"/models/{model.name}"
    assert f"GET /v1/models/{model.name} HTTP" in compose


def test_compose_is_yaml():
    yaml = pytest.importorskip("yaml", reason="no YAML parser is installed")
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert service["image"].startswith("tensorflow/serving:")
    assert all(volume["read_only"] for volume in service["volumes"])
    assert {port.split(":")[0] for port in service["ports"]} == {"127.0.0.1"}
    assert service["mem_limit"] and service["healthcheck"]["test"]
