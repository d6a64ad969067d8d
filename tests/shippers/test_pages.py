"""The pages of deploy/shippers/, and the recipe of curl: part of every run of the tests."""

from __future__ import annotations

import re

import recipes
from scene import EVENTS, RECIPES, ROUNDS, Scene

MOST_LINES = 40
TESTED = (
    "benthos",
    "cloudevents",
    "curl",
    "kubernetes",
    "node-red",
    "opentelemetry-python",
    "otel-collector",
    "rsyslog",
    "splunk-handler",
    "syslog-ng",
    "telegraf",
    "victorialogs",
    "websocat",
)


def test_curl_brings_every_event_once_into_a_folder(scene: Scene) -> None:
    one = recipes.curl(scene)
    curl = one.shipper
    scene.produce(EVENTS, [curl.kill, curl.kill, scene.kill_gateway, curl.kill] * ROUNDS)
    counts = scene.await_all(lambda: recipes.pages(one.file))
    assert counts.keys() == scene.sent
    assert set(counts.values()) == {1}


def test_each_recipe_is_one_page_that_says_whether_it_was_run() -> None:
    folders = sorted(folder.name for folder in RECIPES.iterdir() if folder.is_dir())
    assert set(TESTED) <= set(folders)
    table = (RECIPES / "README.md").read_text()
    for name in folders:
        run = "yes" if name in TESTED else "no"
        assert re.search(rf"\]\({name}/README.md\) .* \| {run} \|$", table, re.MULTILINE), name
        lines = (RECIPES / name / "README.md").read_text().splitlines()
        assert len(lines) <= MOST_LINES, name
        assert any(line.startswith("**Promise.**") for line in lines), name
        assert any(line.startswith("**Limits.**") for line in lines), name
        assert (lines[2].startswith("> Not run by our tests")) == (name not in TESTED), name
