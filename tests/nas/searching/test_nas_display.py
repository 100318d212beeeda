import io
import re

from fake_tasks import TOY
from rich.console import Console

from nas.searching.display import Display
from nas.searching.trials import Settled, Trial


def event(number, status, reward):
    return Settled(Trial(number, TOY.architecture((0, 0, 0))), status, reward, 1.0)


def shown(terminal, act):
    file = io.StringIO()
    with Display(Console(file=file, force_terminal=terminal, width=120)) as display:
        act(display)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def search(display):
    display.preparing("computing features", 1, 2)
    display.preparing("computing features", 2, 2)
    display.stage("fcos_fpn", 1, 6, -0.75)
    display.settled(event(2, "failed", None))
    display.settled(event(3, "done", -0.5))
    display.settled(event(4, "stopped", 0.5))
    display.settled(event(5, "duplicate", 0.5))
    display.settled(event(6, "done", -0.625))
    display.stage_done()


def test_a_terminal_sees_bars_with_the_best_reward_and_the_time_left():
    text = shown(True, search)
    last = text.splitlines()[-1]
    assert re.search(r"fcos_fpn .* 6/6 0:00:00 best -0.5000", last)
    assert "trial 6 of 6" not in text


def test_a_log_sees_one_line_a_step():
    assert shown(False, search).splitlines() == [
        "computing features (2)",
        "fcos_fpn: trial 2 of 6, best -0.7500, 0:00:00 left",
        *(f"fcos_fpn: trial {number} of 6, best -0.5000, 0:00:00 left" for number in range(3, 7)),
    ]


def test_before_any_reward_none_is_shown():
    def failing(display):
        display.stage("fcos_fpn", 0, 1, None)
        display.settled(event(1, "failed", None))

    assert "fcos_fpn: trial 1 of 1, no reward yet" in shown(False, failing)
