"""How quick the page to try a model is, in a headless Chromium.

    python -m benchmarks.page --model_base=exported/jtm

Serves the folder as export.serve does, opens the page and uses it. Prints JSON,
median milliseconds: until something is painted, from a click until the new
recommendations are drawn, from there until their walk is, and from a letter
typed until items are found (80 ms of which it waits for another letter).
Needs Debian's chromium and the extra `test`.
"""

import json
import shutil
import statistics
import subprocess
import sys

from absl import flags

from jtm_tf.command_line import program

_MODEL_BASE = flags.DEFINE_string(
    "model_base", None, "A folder of versions.", required=True
)
_TIMES = flags.DEFINE_integer(
    "times", 20, "Of what is measured.", lower_bound=2
)

# Milliseconds from doing something until what is below a place is drawn anew.
_UNTIL_DRAWN = """([what, where]) => new Promise((resolve) => {
  const began = performance.now();
  new MutationObserver((_, watch) => {
    if (!document.querySelector(where).childElementCount) return;
    watch.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - began));
  }).observe(document.querySelector(where), {childList: true});
  if (what.startsWith("type ")) {
    const query = document.querySelector("#query");
    query.value = what.slice(5);
    query.dispatchEvent(new Event("input"));
  } else document.querySelector(what).click();
})"""
_PAINTED = """() => performance.getEntriesByType("paint")
  .find((x) => x.name === "first-contentful-paint").startTime"""


@program.entry
def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright import sync_api  # of the extra `test`
    except ImportError as error:
        raise ValueError("Playwright is needed: pip install '.[test]'.") from (
            error
        )
    if chromium is None:
        raise ValueError("Chromium is needed: apt-get install chromium.")
    command = [sys.executable, "-m", "export.serve", "--rest_port=0"]
    with subprocess.Popen(
        [*command, "--port=0", f"--model_base={_MODEL_BASE.value}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                raise ValueError(f"{_MODEL_BASE.value} cannot be served.")
            url = f"http://127.0.0.1:{json.loads(line)['rest']}/"
            with sync_api.sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox"]
                )
                print(json.dumps(_measured(browser, url)))
                browser.close()
        finally:
            server.terminate()


def _measured(browser, url):
    """Uses the page; returns how long it took."""
    painted = []
    for _ in range(_TIMES.value):
        tab = browser.new_page()
        tab.goto(url)
        tab.wait_for_selector("#picture svg", timeout=120_000)
        painted.append(tab.evaluate(_PAINTED))
        if len(painted) < _TIMES.value:
            tab.close()
    add = "#lists li:nth-child({}) button"
    clicked, walked, found = [], [], []
    for turn in range(_TIMES.value):
        place = add.format(1 + turn % 5)
        clicked.append(tab.evaluate(_UNTIL_DRAWN, [place, "#lists"]))
        tab.wait_for_load_state("networkidle")
        whole = tab.evaluate(_UNTIL_DRAWN, [place, "#picture"])
        walked.append(max(0.0, whole - clicked[-1]))
        tab.wait_for_load_state("networkidle")
        words = tab.locator("#lists .name").nth(turn % 5).inner_text()[:3]
        found.append(tab.evaluate(_UNTIL_DRAWN, [f"type {words}", "#found"]))
    return {
        "times": _TIMES.value,
        "first_paint": round(statistics.median(painted), 1),
        "click_to_list": round(statistics.median(clicked), 1),
        "then_to_walk": round(statistics.median(walked), 1),
        "letter_to_items": round(statistics.median(found), 1),
    }


if __name__ == "__main__":
    main()
