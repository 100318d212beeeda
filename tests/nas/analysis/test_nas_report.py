import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from analysis_runs import TOY, row, write_run, write_stages
from PIL import Image

from nas.analysis import analyse, report
from nas.analysis.canvas import Plot, stylesheet
from nas.analysis.outcome_plots import effects
from nas.analysis.views import best_view, view
from search_spaces import SPACES

SECTIONS = [
    *("Summary", "Confirmation", "Reward", "Sampling", "Sampling over time", "Weight sharing", "Effects", "Controller"),
    *("Size and cost", "Promotion", "Wall time", "Failures", "Best architectures"),
]
VOID = {"meta", "link", "br"}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """A page's elements; fails where an end tag is not that of the innermost open element."""

    def __init__(self, path):
        super().__init__()
        self.open, self.sections, self.texts, self.sources, self.ids = [], {}, {}, [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.sources += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        if tag == "section":
            self.section = values["id"]
            self.sections[self.section] = []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "section" in self.open and "script" not in self.open:
            self.sections[self.section].append(text)
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(text)

    def text(self, section):
        return " ".join(" ".join(self.sections[section]).split())


def architectures(name, count, seed):
    rng = np.random.default_rng(seed)
    return [SPACES.get(name).sample(rng).tokens for _ in range(count)]


def trials(name, count, seed):
    """Trials with rewards of the operations and noise, some of which stop or fail, one for a reason in HTML."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, tokens in enumerate(architectures(name, count, seed)):
        reward = sum(tokens) / 100 - 2 + 0.05 * rng.standard_normal()
        sizes = {"loss": -reward, "params": 1e6 * rng.uniform(1, 2), "macs": 1e9 * rng.uniform(3, 4)}
        figures = {"entropy": 1 / (number + 1), "approx_kl": 0.01} if number % 5 == 4 else None
        ended = {3: ("stopped", reward - 1), 7: ("failed", None), 8: ("diverged", None)}.get(number, ("done", reward))
        reason = "RuntimeError: <b onclick=alert(1)>&amp; 'out'" if number == 7 else None
        rows.append(row(tokens, *ended, reason, 2.0, 100.0 + 3 * number, figures, **sizes))
    return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A progressive run with promotions, and a random one, as analyses; the report of both is in `pages`."""
    root = tmp_path_factory.mktemp("runs")
    stages = {"fcos_fpn": trials("fcos_fpn", 30, 0), "fcos_head": trials("fcos_head", 15, 1)}
    keys = [SPACES.get("fcos_fpn").architecture(item["tokens"]).key for item in stages["fcos_fpn"][10:14]]
    promotions = [{"key": key, "recipe": "1x", "metrics": {"ap": 30.0 + i}} for i, key in enumerate(keys)]
    ppo = write_stages(root / "ppo", stages, "fcos_decoder", promotions, controller="lstm-ppo")
    random = write_stages(root / "random", {"fcos_fpn": trials("fcos_fpn", 20, 2)}, "fcos_decoder")
    return analyse(ppo), analyse(random)


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    report.write(runs, out)
    return out


def test_the_page_has_every_section_and_loads_nothing(out):
    page = Page(out / "report.html")
    assert [text.strip() for text in page.texts["h2"]] == SECTIONS
    assert len(set(page.ids)) == len(page.ids)
    links = [source for source in page.sources if not source.startswith("data:")]
    assert set(links) <= {f"#{name}" for name in page.ids}
    assert {f"#{name}" for name in page.sections} <= set(links)
    assert "default-src 'none'" in page.source
    for section in page.sections:
        assert len(page.text(section)) > 40, section


def test_every_plot_is_on_the_page_and_two_files(out):
    page = Page(out / "report.html")
    names = sorted(name.removeprefix("plot-") for name in page.ids if name.startswith("plot-"))
    assert names == sorted(file.stem for file in (out / "plots").glob("*.png"))
    assert names == sorted(file.stem for file in (out / "plots").glob("*.svg"))
    for what in ("reward", "metrics", "sampling", "sampling_over_time", "effects", "controller", "pareto"):
        assert {f"{what}-fcos_fpn-run1", f"{what}-fcos_head-run1", f"{what}-fcos_fpn-run2"} <= set(names), what
    assert {"overlay-fcos_fpn", "weight_sharing-fcos_head-run1", "promotion-1x-run1", "wall_time-run1"} <= set(names)
    for name in names:
        ET.parse(out / "plots" / f"{name}.svg")
        with Image.open(out / "plots" / f"{name}.png") as image:
            assert image.width == 1400
            assert len(image.convert("L").resize((140, 60)).getcolors()) > 5, name  # something is drawn


def test_runs_are_told_apart_and_the_random_one_is_the_baseline(runs, out):
    def texts(name):
        return {element.text.strip() for element in ET.parse(out / "plots" / f"{name}.svg").iter(f"{SVG}text")}

    assert {runs[0].name, runs[1].name} <= texts("overlay-fcos_fpn")
    assert "random search, mean" in texts("reward-fcos_fpn-run1")
    assert "random search, mean" not in texts("reward-fcos_fpn-run2")
    assert "trial of the stage" in texts("reward-fcos_fpn-run1")
    assert "parameters (M)" in texts("pareto-fcos_fpn-run1")
    assert "Kendall's τ" in " ".join(texts("promotion-1x-run1"))


def test_what_failed_and_what_is_best_is_told(runs, out):
    page = Page(out / "report.html")
    assert "RuntimeError: <b onclick=alert(1)>&amp; 'out'" in page.text("failures")
    assert "<b onclick" not in page.source
    for best in runs[0].best:
        assert best.architecture.key in page.text("summary")
        assert best.architecture.key in page.text("best-architectures")
    assert page.source.count('class="frame drawing"') == len(runs[0].best) + len(runs[1].best)


def test_points_tell_their_values_where_they_are_drawn(tmp_path):
    x, y = [1.0, 2.0, 3.5, 9.0], [-1.0, np.nan, 0.25, 4.0]
    with stylesheet():
        plot = Plot("points", "Four points, one of them nowhere.", 3.0)
        plot.scatter(plot.axes[0], "them", x, y, {"trial": [4, 5, 6, 7], "reward": y}, color="#0072b2")
        plot.tell(plot.axes[0], "beyond the axes", [1e6], [0.0], {"trial": [8]})
        inline, told = plot.save(tmp_path)
    told = json.loads(told)
    assert told["series"][0] == {"name": "them", "columns": ["trial", "reward"]}
    drawn = [
        (float(use.get("x")), float(use.get("y")))
        for use in ET.parse(tmp_path / "points.svg").iter(f"{SVG}use")
        if "0072b2" in use.get("style", "")
    ]
    assert [point[0] for point in told["points"]] == [0, 0, 0]
    np.testing.assert_allclose([point[1:3] for point in told["points"]], drawn, atol=0.051)
    assert [point[3:] for point in told["points"]] == [[4, -1.0], [6, 0.25], [7, 4.0]]
    ET.fromstring(inline)
    assert "var(--series-blue)" in inline
    assert not re.search("#[0-9a-f]{6}", inline.replace("#000000", ""))


HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--",
    "$x_{1}",
    "_hidden",
    "two\nlines, and 'quotes' \\ and a name that is far longer than any label could ever be",
    "日本 é",
]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_shown_and_never_run(runs, tmp_path):
    rows = {name: table.head(len(HOSTILE)) for name, table in runs[0].tables.items()}
    for name, column in {"proportions": "option", "effects": "kind", "controller": "name", "metrics": "metric"}.items():
        rows[name] = rows[name].assign(**{column: HOSTILE[: len(rows[name])]})
    reasons = {"stage": "fcos_fpn", "status": "failed", "reason": HOSTILE, "count": 1}
    rows["failures"] = pd.DataFrame(reasons)
    name = HOSTILE[0]
    hostile = dataclasses.replace(runs[0], name=name, space=name, tables=rows, settings=HOSTILE[:3], best=())
    report.write([hostile], tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.texts["title"] == [f"{name}: a search of {name}"]
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text("failures")
    for poison in ("<script>alert", "<img", "<!--"):
        assert poison not in page.source
    assert page.source.count("<script") == 2 + page.source.count('class="plot"')
    for plot in ("sampling-fcos_fpn", "metrics-fcos_fpn"):
        texts = [element.text for element in ET.parse(tmp_path / "plots" / f"{plot}.svg").iter(f"{SVG}text")]
        assert {"$x_{1}", " _hidden", "<!--"} <= set(texts)


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        ([row((0, 1, 0), 0.5)], {"effects": "have no interval", "size-and-cost": "parameters or multiply-adds"}),
        (
            [row((0, 1, 0), "failed", reason="by nought"), row((1, 1, 0), "diverged", reason="nan")],
            {
                "reward": "No trial has a reward",
                "best-architectures": "No trial is done",
                "summary": "No trial is done",
            },
        ),
        ([row((0, 1, 0), "running")], {"reward": "No trial is settled", "failures": "No trial failed"}),
    ],
)
def test_a_section_with_nothing_to_show_says_why(rows, sentences, tmp_path):
    report.write([analyse(write_run(tmp_path / "run", rows))], tmp_path)
    page = Page(tmp_path / "report.html")
    always = {"weight-sharing": "no choice", "promotion": "trained in full", "controller": "No update"}
    for section, sentence in {**always, **sentences}.items():
        assert sentence in page.text(section), section
    statistics = " ".join(page.text(section) for section in page.sections if section not in ("summary", "failures"))
    assert not re.search(r"\b(nan|NaN|None|inf)\b", statistics)


def test_runs_without_a_stage_in_common_say_so(tmp_path):
    toy = analyse(write_run(tmp_path / "toy", [row((0, 1, 0), 0.5)], TOY))
    moody = analyse(write_run(tmp_path / "moody", [row((0,), 0.5)], "fake_tasks:MOODY"))
    report.write([toy, moody], tmp_path)
    assert "No two of the runs have a stage" in Page(tmp_path / "report.html").text("reward")


def test_cells_show_numbers_for_reading_and_sort_by_value(runs):
    shown = view("effects", runs[0])
    frame = runs[0].tables["effects"]
    column = [column.name for column in shown.columns].index("difference")
    assert shown.columns[column].numeric
    for cells, value in zip(shown.rows, frame.difference, strict=True):
        if pd.isna(value):
            assert cells[column].text == cells[column].value == ""
        else:
            assert cells[column].value == value
            assert float(cells[column].text.replace("−", "-")) == pytest.approx(value, rel=1e-3)
    assert [cells[2].value for cells in shown.rows] == [None] * len(frame)
    best = best_view(runs[0])
    assert [cells[0].text for cells in best.rows] == ["1", "2", "3", "4", "5"]
    assert re.fullmatch(r"1,\d{3},\d{3}", best.rows[0][4].text)


def test_a_long_table_is_cut_and_says_where_the_rest_is(runs):
    rewards = pd.concat([runs[0].tables["rewards"]] * 20, ignore_index=True)
    shown = view("rewards", dataclasses.replace(runs[0], tables={**runs[0].tables, "rewards": rewards}))
    assert len(shown.rows) == 300
    assert f"The first 300 of {rewards.reward.notna().sum()} rows; all are in tables/rewards.csv" in shown.caption
    values = [cells[[c.name for c in shown.columns].index("reward")].value for cells in shown.rows]
    assert values == sorted(values, reverse=True)


def test_significant_effects_are_filled(runs, tmp_path):
    frame = runs[0].tables["effects"].query("stage == 'fcos_fpn'").head(3)
    frame = frame.assign(difference=[0.2, 0.1, -0.3], low=[0.1, -0.1, -0.4], high=[0.3, 0.3, -0.2])
    frame = frame.assign(p_holm=[0.01, 0.5, 0.049])
    analysis = dataclasses.replace(runs[0], tables={**runs[0].tables, "effects": frame})
    with stylesheet():
        (plot,) = effects(analysis, [analysis])
        plot.save(tmp_path)
    styles = [use.get("style", "") for use in ET.parse(tmp_path / f"{plot.name}.svg").iter(f"{SVG}use")]
    points = [style for style in styles if "stroke: #0072b2" in style]
    assert ["fill: #0072b2" in style for style in points] == [True, False, True]  # by difference, greatest first


def test_a_folder_that_cannot_be_written_is_the_systems_error(runs, tmp_path):
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(FileExistsError, match="plots"):
        report.write(runs, tmp_path)
