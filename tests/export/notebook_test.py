"""Tests of `Recommender.explore`: the page of a model in a notebook."""

import importlib.metadata
import json
import time
import urllib.error
import urllib.request

import pytest

import jtm_tf
from jtm_tf.data import interactions
from tests.support import served_models
from tests.support import worlds


@pytest.fixture(name="recommender", scope="module")
def _recommender(tmp_path_factory):
    data = interactions.load(worlds.prepare(tmp_path_factory.mktemp("data")))
    origin = served_models.origin_of(data, served_models.untrained(), None)
    return jtm_tf.Recommender(origin.run)


def read(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


@pytest.mark.slow
def test_a_model_is_tried_where_it_was_trained(recommender, monkeypatch):
    shown = recommender.explore(samples={"Ann": [1, 2, 3]}, height=700)
    assert b"<title>" in read(shown.url)
    about = json.loads(read(shown.url + "page/about.json"))
    assert about["samples"] == [{"name": "Ann", "history": [1, 2, 3]}]
    body = json.dumps({"inputs": {"history": [[1, 2, 3]]}}).encode()
    url = f"{shown.url}v1/models/{about['model']}:predict"
    answer = json.loads(read(urllib.request.Request(url, body)))
    found = recommender.recommend([1, 2, 3], num_results=5)
    asked = answer["outputs"]["item_ids"][0]
    assert asked[:5] == [x.raw_id for x in found]
    drawn = []
    monkeypatch.setattr("IPython.display.display", drawn.append)
    shown._ipython_display_()
    assert f'src="{shown.url}"' in drawn[0].data and "700px" in drawn[0].data
    assert shown.url in repr(shown)
    server = shown._server
    assert server.watcher.base.exists()
    again = recommender.explore()  # ends the first
    assert "stopped" in repr(shown) and not server.watcher.base.exists()
    shown.stop()
    again.stop()
    with pytest.raises(urllib.error.URLError):
        read(shown.url)


def test_it_may_end_on_a_thread_of_its_own(recommender):
    """Where the collector finds it, which may be any."""
    shown = recommender.explore()
    base, loop = shown._server.watcher.base, shown._server._loop
    loop.call_soon_threadsafe(shown.stop)
    deadline = time.monotonic() + 60
    while base.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not base.exists() and "stopped" in repr(shown)


def test_without_what_serves_it_says_so(recommender, monkeypatch):
    nobody = importlib.metadata.EntryPoints([])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: nobody)
    with pytest.raises(ValueError, match=r"pip install 'jtm_tf\[serve\]'"):
        recommender.explore()
