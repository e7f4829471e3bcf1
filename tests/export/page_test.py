"""The page to try a model: what it serves, and what a browser makes of it."""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request

import pyarrow as pa
import pytest

from export import serving
from export.artefact import publishing
from export.artefact import saved_model
from export.serving import page
from jtm_tf.data import interactions
from tests.support import served_models
from tests.support import shell
from tests.support import worlds

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_AVAILABLE = 30  # of TensorFlow Serving's states
_BUSY_MS = 120_000  # a machine may have much else to do
# Long, from the right, of no script, and not of a page.
HOSTILE = [
    "<img src=x onerror=\"document.title='broken'\">",
    "مرحبا שלום ‮evil",
    "🥛 milk 🧀",
    "x" * 10_000,
]


@pytest.fixture(name="base", scope="module")
def _base(tmp_path_factory):
    """Two versions of a model with names, some of them hostile."""
    folder = tmp_path_factory.mktemp("page")
    data = interactions.load(worlds.prepare(folder))
    names = [f"thing {i}" for i in range(1, data.num_items + 1)]
    names[: len(HOSTILE)] = HOSTILE
    paths = [f"c{i % 3}|f{i % 2}" for i in range(data.num_items)]
    items = data.items.drop_columns(["category"])
    items = items.append_column("category", pa.array(paths))
    items = items.append_column("name", pa.array(names))
    data = dataclasses.replace(data, items=items)
    config = saved_model.SearchConfig(beam_width=12, num_results=10)
    base = folder / "shop"
    for version in (1, 2):
        model = served_models.untrained(
            seed=version, branching=2, path_weight=0.5
        )
        made = served_models.origin_of(data, model, config)
        made.run.config["config"]["branching"] = 2
        publishing.publish(made, base, version)
    return base


@pytest.fixture(name="samples", scope="module")
def _samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "samples.json"
    path.write_text(json.dumps([{"name": "Ann <b>", "history": [7, 8, 9]}]))
    return path


@pytest.fixture(name="url", scope="module")
def _url(base, samples):
    config = serving.Config(samples=str(samples))
    with serving.Server(base, config) as server:
        yield f"http://127.0.0.1:{server.rest_port}"


def get(url):
    """Returns status, headers and body."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_page_asks_nobody_else(url):
    status, headers, body = get(url + "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    folder = pathlib.Path(page.__file__).parent / "page_files"
    files = [path.name for path in folder.iterdir()]
    assert "main.js" in files and "page.css" in files
    for name in files:
        text = (folder / name).read_text("utf-8")
        outside = re.findall(r"https?://[^\"'` ]+", text)
        # A name of the language of drawings; nobody asks for it.
        assert set(outside) <= {"http://www.w3.org/2000/svg"}, name
        if name != "index.html":
            status, headers, sent = get(f"{url}/page/{name}")
            assert status == 200 and sent.decode() == text
            assert headers["X-Content-Type-Options"] == "nosniff"
    for asked in re.findall(rb'(?:src|href)="(/[^"]+)"', body):
        assert get(url + asked.decode())[0] == 200
    about = json.loads(get(url + "/page/about.json")[2])
    assert about["model"] == "shop"
    assert about["samples"][0]["history"] == [7, 8, 9]


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/page.py",
        "/page/../page.py",
        "/page/%2e%2e/page.py",
        "/page//etc/passwd",
        "/page/main.js/",
        "/page/main.js%00",
        "/index.html",
    ],
)
def test_nothing_else_is_read(url, path):
    assert get(url + path)[0] == 404


def test_the_card_is_read_as_written(url, base):
    status, headers, body = get(f"{url}/v1/models/shop/versions/1/card")
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert body == (base / "1" / "model_card.json").read_bytes()
    assert json.loads(get(f"{url}/v1/models/shop/card")[2])["version"] == 2
    assert get(f"{url}/v1/models/shop/versions/3/card")[0] == 404


def test_a_server_may_have_no_page(tmp_path):
    base = tmp_path / "shop"
    served_models.publish_numbered(base, 1)
    with serving.Server(base, serving.Config(page=False)) as server:
        url = f"http://127.0.0.1:{server.rest_port}"
        assert get(url + "/")[0] == get(url + "/page/main.js")[0] == 404
        assert get(url + "/v1/models/shop")[0] == 200


@pytest.mark.parametrize(
    "text, got",
    [
        ("{", "cannot be read"),
        ("{}", "expected a JSON list"),
        ('[{"name": "Ann"}]', "got {'name': 'Ann'}"),
        ('[{"name": 1, "history": []}]', "expected a JSON list"),
        ('[{"name": "Ann", "history": [1.5]}]', r"got .*1\.5"),
        ('[{"name": "Ann", "history": [true]}]', "got .*True"),
        (json.dumps([{"name": "", "history": []}] * 21), "at most 20"),
    ],
)
def test_samples_that_are_none_are_told(tmp_path, text, got):
    path = tmp_path / "samples.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=got):
        page.read_samples(str(path))
    missing = str(tmp_path / "none.json")
    with pytest.raises(ValueError, match="none.json cannot be read"):
        serving.Server(tmp_path, serving.Config(samples=missing))


@contextlib.contextmanager
def browser():
    """Opens Debian's Chromium, which no test brings along."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        with contextlib.closing(opened):
            yield opened


@pytest.fixture(name="chromium", scope="module")
def _chromium():
    with browser() as opened:
        yield opened


@pytest.fixture(name="tab")
def _tab(chromium):
    """A tab that fails a test by any error of its own.

    Answers that are errors are not: the page tells of them.
    """
    tab, said = chromium.new_page(), []
    tab.set_default_timeout(_BUSY_MS)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on(
        "console",
        lambda x: (
            said.append(x.text)
            if x.type == "error" and not x.text.startswith("Failed to load")
            else None
        ),
    )
    yield tab
    tab.close()
    assert not said


def ids(tab, rows):
    """Returns the ids that a list shows, below its names."""
    shown = tab.locator(f"{rows} .category").all_inner_texts()
    return [int(text.split(" · ")[-1]) for text in shown]


def at(tab, place):
    """Returns whether an element has the focus."""
    return tab.locator(place).evaluate("x => x === document.activeElement")


def ask(url, signature, inputs, version=2):
    """Asks as any client does; returns the outputs."""
    request = urllib.request.Request(
        f"{url}/v1/models/shop/versions/{version}:predict",
        json.dumps({"signature_name": signature, "inputs": inputs}).encode(),
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["outputs"]


def settled(tab, expected, rows="#lists"):
    """Waits until a list is as expected, its items known by their names."""
    tab.wait_for_function(
        """([rows, want]) => [...document.querySelectorAll(`${rows} .category`)]
        .map(x => Number(x.textContent.split(" · ").at(-1))).join() === want""",
        arg=[rows, ",".join(map(str, expected))],
    )


def test_somebody_tries_the_model_by_the_keyboard(tab, url):
    tab.goto(url)
    best = ask(url, "recommend", {"history": [[]]})["item_ids"][0]
    settled(tab, best)
    # Types, and picks the second that is found.
    tab.focus("#query")
    tab.keyboard.type("thing 1")
    # What was found for its first letters may be there yet.
    tab.wait_for_function(
        """() => {
          const names = [...document.querySelectorAll("#found .name")];
          return names.length &&
            names.every(x => x.textContent.startsWith("thing 1"));
        }"""
    )
    found = ids(tab, "#found")
    assert len(found) > 2
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    had = [found[1]]
    assert at(tab, "#query")
    settled(tab, ask(url, "recommend", {"history": [had]})["item_ids"][0])
    settled(tab, had, "#had")
    # Adds the first recommendation.
    had.append(ids(tab, "#lists")[0])
    tab.locator("#lists button", has_text="add").first.press("Enter")
    settled(tab, ask(url, "recommend", {"history": [had]})["item_ids"][0])
    settled(tab, had[::-1], "#had")  # the newest is on top
    # Leaves out what was had, and keeps to a category.
    tab.focus("#new-only")
    tab.keyboard.press("Space")
    inputs = {
        "history": [had],
        "exclude": [list(dict.fromkeys(had))],
        "allow_categories": [[]],
    }
    new = ask(url, "recommend_filtered", inputs)["item_ids"][0]
    assert not set(new) & set(had)
    settled(tab, new)
    tab.fill("#category", "c1")
    tab.keyboard.press("Enter")
    inputs["allow_categories"] = [["c1"]]
    settled(tab, ask(url, "recommend_filtered", inputs)["item_ids"][0])
    assert '"allow_categories": [["c1"]]' in tab.inner_text("#call")
    # The call that it shows is the one that it makes.
    tab.click("#forms >> text=JSON")
    body = tab.inner_text("#call").split("\n\n")[1]
    assert json.loads(body)["inputs"] == inputs
    assert at(tab, "#forms >> text=JSON")
    # The address keeps it all.
    shown = ids(tab, "#lists")
    tab.reload()
    settled(tab, shown)
    tab.locator("#clear").press("Enter")
    tab.wait_for_selector("#nothing-had:not([hidden])")
    assert at(tab, "#query")


def test_enter_picks_nothing_of_an_older_query(tab, url):
    tab.goto(url)
    tab.wait_for_selector("#lists li")
    tab.focus("#query")
    tab.keyboard.type("thing")
    tab.wait_for_selector("#found [role=option]")
    tab.keyboard.type("zzz")
    tab.keyboard.press("Enter")
    tab.wait_for_function(
        "() => document.querySelector('#find-status').textContent.includes("
        "'No item')"
    )
    assert ids(tab, "#had") == []


def test_an_address_of_rubbish(tab, url):
    tab.goto(url + "/#had=milk&had=&had=5, 6&had=-0&had=7&allow=<b>&x=y")
    tab.wait_for_function(
        "() => document.querySelectorAll('#had li').length === 1"
    )
    settled(tab, [7], "#had")
    assert "milk" in tab.inner_text("#find-status")
    tab.wait_for_selector("#answer >> text=/^0 items/")
    assert tab.locator("#trouble").is_hidden()


def test_a_version_comes_while_the_page_is_open(tab, base, tmp_path):
    """One without names, and without a walk to tell of."""
    shop = tmp_path / "shop"
    shutil.copytree(base / "1", shop / "1")
    config = serving.Config(poll_seconds=0.1)
    with serving.Server(shop, config) as server:
        tab.goto(f"http://127.0.0.1:{server.rest_port}/#had=7")
        tab.wait_for_selector("#picture svg")
        assert tab.locator("#versions").is_hidden()
        data = interactions.load(worlds.prepare(tmp_path))
        bare = dataclasses.replace(
            data, items=data.items.select(["item", "raw_id"])
        )
        flat = served_models.untrained(**served_models.KINDS["flat"])
        made = served_models.origin_of(
            bare, flat, saved_model.SearchConfig(beam_width=12, num_results=10)
        )
        new = publishing.publish(made, tmp_path / "made", 2)
        shutil.rmtree(new / "assets.extra" / "origin")
        new.rename(shop / "2")
        deadline = time.monotonic() + 60
        while server.watcher.states()[0][:2] != (2, _AVAILABLE):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        tab.click("#new-only")
        tab.wait_for_selector("#versions:not([hidden])")
        tab.wait_for_selector("#walk-note >> text=scans all items")
        assert tab.locator("#trouble").is_hidden()
        shown = tab.locator("#lists .name").all_inner_texts()
        assert len(shown) == 10 and "7" not in shown
        # Without names an id is typed as it is.
        tab.fill("#query", "9")
        tab.wait_for_selector("#found [role=option]")
        tab.press("#query", "Enter")
        tab.wait_for_selector("#had li >> nth=1")


def test_why_and_why_not(tab, url):
    tab.goto(url)
    best = ask(url, "recommend", {"history": [[]]})["item_ids"][0]
    settled(tab, best)
    tab.locator("#lists button", has_text="why").nth(1).click()
    tab.wait_for_selector("#why table")
    assert "Recommended" in tab.inner_text("#verdict")
    assert tab.locator("#picture .path.asked").count() == 1
    assert tab.locator("#picture .kept").count() >= 3
    last = tab.locator("#why tbody tr").last.locator("td").all_inner_texts()
    assert last[3] == "2 ✓"  # the second of what is recommended
    lost = next(i for i in range(10, 51) if i not in best)
    tab.fill("#why-query", str(lost))
    tab.wait_for_selector("#why-found [role=option]")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#picture .path.lost")
    told = tab.inner_text("#verdict")
    assert f"thing {lost}" in tab.inner_text("#why")
    assert "Lost on level" in told
    step = re.search(r"number (\d+) of (\d+), and (\d+)", told)
    assert int(step[3]) < int(step[1]) <= int(step[2])


def test_two_versions_side_by_side(tab, url):
    tab.goto(url)
    two = ask(url, "recommend", {"history": [[]]})["item_ids"][0]
    settled(tab, two)
    one = ask(url, "recommend", {"history": [[]]}, version=1)["item_ids"][0]
    assert one != two
    tab.select_option("#beside", "1")
    settled(tab, two + one)
    heads = tab.locator("#lists h3").all_inner_texts()
    assert heads == ["Version 2", "Version 1"]
    tab.select_option("#version", "1")
    tab.select_option("#beside", "")
    settled(tab, one)


def test_hostile_names_are_text(tab, url):
    tab.goto(url)
    tab.click("text=Ann <b>")
    settled(tab, [9, 8, 7], "#had")
    for item, name in enumerate(HOSTILE, 1):
        tab.fill("#query", str(item))
        tab.wait_for_selector("#found [role=option]")
        tab.keyboard.press("Enter")
        tab.wait_for_function(
            "want => document.querySelector('#had .name').textContent === want",
            arg=name if len(name) < 1000 else "x" * 300 + "…",
        )
    assert tab.locator("main img").count() == 0
    assert tab.title() == "Try shop"
    height = tab.locator("#had li").first.evaluate("x => x.clientHeight")
    assert height < 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_can_be_read(chromium, url, width, scheme):
    """Nothing overlaps or sticks out; contrast AA; everything has a label."""
    size = {"width": width, "height": 800}
    with contextlib.closing(
        chromium.new_page(viewport=size, color_scheme=scheme)
    ) as tab:
        tab.set_default_timeout(_BUSY_MS)
        tab.goto(url + "/#had=4&had=2&had=7&new=1&allow=c1")
        tab.wait_for_selector("#lists li")
        tab.locator("#lists button", has_text="why").first.click()
        tab.wait_for_selector("#why table")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        told = tab.evaluate(_LOOK)
    assert told["overlaps"] == []
    assert told["nameless"] == []
    assert told["pale"] == []


# What a reader would stumble over: texts and controls that cover each other,
# controls without a name, and texts of less contrast than 4.5.
_LOOK = r"""() => {
  const seen = [...document.querySelectorAll(
      "button, input, select, h1, h2, h3, p, label, .name, .category, td, th")]
    .filter((x) => x.checkVisibility() && x.getClientRects().length
      && !x.closest(".skip, [role=listbox]"));
  const overlaps = [];
  for (const a of seen) for (const b of seen) {
    if (a === b || a.contains(b) || b.contains(a)) continue;
    const r = a.getBoundingClientRect(), s = b.getBoundingClientRect();
    const wide = Math.min(r.right, s.right) - Math.max(r.left, s.left);
    const high = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
    // A list that scrolls hides what lies below its edge.
    if (a.closest("#had") || b.closest("#had")) continue;
    if (wide > 1 && high > 1) overlaps.push([a.outerHTML, b.outerHTML]);
  }
  const nameless = [...document.querySelectorAll("button, input, select")]
    .filter((x) => x.checkVisibility() && !x.labels?.length
      && !x.getAttribute("aria-label") && !x.textContent.trim())
    .map((x) => x.outerHTML);
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    const [r, g, b] = parts.slice(0, 3).map((x) => {
      const share = x / 255;
      return share <= 0.04 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return parts[3] === 0 ? null : 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = (x) => {
    for (let at = x; at; at = at.parentElement) {
      const found = light(getComputedStyle(at).backgroundColor);
      if (found !== null) return found;
    }
    return 1;
  };
  const pale = seen.filter((x) => x.textContent.trim()).map((x) => {
    const pair = [light(getComputedStyle(x).color), below(x)];
    const [dark, bright] = pair.sort((p, q) => p - q);
    return [(bright + 0.05) / (dark + 0.05), x.outerHTML];
  }).filter(([ratio]) => ratio < 4.5);
  return { overlaps, nameless, pale };
}"""


def test_long_ids_keep_their_digits(tab, url):
    """JavaScript's numbers would not."""
    tab.goto(url)
    parsed = tab.evaluate(
        """async () => {
        const { parse, writeIds } = await import("/page/json.js");
        const text = '{"id": 1234567890123456789, "x": 0.12345678901234567890,'
          + ' "name": "a, 1234567890123456789", "low": -3.4028234663852886e38,'
          + ' "few": [1, -9007199254740993]}';
        const found = parse(text);
        return [found, writeIds([found.id, found.few[0]], true),
          writeIds(['a"b', "7"], false)];
      }"""
    )
    found, integers, strings = parsed
    assert found["id"] == "1234567890123456789"
    assert found["few"] == [1, "-9007199254740993"]
    assert found["name"] == "a, 1234567890123456789"
    assert found["x"] == pytest.approx(0.123456789) and found["low"] < -3e38
    assert json.loads(integers) == [1234567890123456789, 1]
    assert json.loads(strings) == ['a"b', "7"]


def test_a_server_that_goes_is_told_of(tab, url):
    tab.goto(url)
    tab.wait_for_selector("#lists li")
    tab.evaluate("() => { window.fetch = () => Promise.reject(Error()); }")
    tab.click("#new-only")
    tab.wait_for_selector("#trouble:not([hidden])")
    assert "does not answer" in tab.inner_text("#trouble")


@pytest.mark.slow
def test_how_quick_it_is_is_measured(base):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    status, stdout, stderr = shell.run(
        "benchmarks.page", f"--model_base={base}", "--times=2"
    )
    assert status == 0, stderr
    told = json.loads(stdout.splitlines()[-1])
    assert told.pop("then_to_walk") >= 0
    assert min(told.values()) > 0
