"""What it takes to read a run: no torch, and no memory for plots that are saved already."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from analysis_runs import row, write_stages
from places import environment

from nas.analysis.canvas import Plot, stylesheet
from search_spaces import SPACES

TRIALS = "import nas\nassert len(nas.load_run(RUN).trials) == 8"
BEST = "import nas\nassert len(nas.load_run(RUN).best(2)) == 2"
ANALYSE = "from nas.cli import analyze\nassert analyze.main([RUN]) == 0"
DRAW = """
import numpy as np
import search_spaces
from nas.drawing import draw
for name in search_spaces.names():
    assert draw(search_spaces.get(name).sample(np.random.default_rng(0))).startswith("<svg")
"""
REFUSE = """
from nas.searching.plan import resolve
from nas.settings import SearchSettings
try:
    resolve(SearchSettings(space="fcos_fpm"))
except ValueError as error:
    assert "did you mean 'fcos_fpn'?" in str(error)
else:
    raise AssertionError("the space is unknown")
"""
READ = """
import sys
RUN = sys.argv[1]
{command}
heavy = {{"torch", "torchvision", "ray", "proxy_tasks"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "command", [TRIALS, BEST, ANALYSE, DRAW, REFUSE], ids=["trials", "best", "nas-analyze", "drawings", "wrong space"]
)
def test_choices_alone_need_no_torch(tmp_path, command):
    rng = np.random.default_rng(0)
    rows = {
        name: [row(SPACES.get(name).sample(rng).tokens, float(k), params=1e6 + k, macs=1e9) for k in range(4)]
        for name in ("fcos_fpn", "fcos_head")
    }
    run = write_stages(tmp_path / "run", rows, "fcos_decoder")
    arguments = [sys.executable, "-c", READ.format(command=command), str(run)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    if command is ANALYSE:
        assert (run / "report" / "report.html").read_text().count('class="frame drawing"') == 4


def test_a_saved_plot_keeps_nothing_until_the_next_collection(tmp_path):
    gc.collect()
    gc.disable()
    try:
        with stylesheet():
            plot = Plot("points", "Many points.", 3.0)
            x = np.arange(100.0)
            plot.scatter(plot.axes[0], "them", x, x, {"trial": x}, color="#0072b2")
            plot.line(plot.axes[0], "line", x, x, {"trial": x})
            held = [weakref.ref(artist) for artist in (*plot.axes[0].collections, *plot.axes[0].lines)]
            plot.save(tmp_path)
            del plot
        assert len(held) == 2
        assert [artist() for artist in held] == [None, None]
    finally:
        gc.enable()
