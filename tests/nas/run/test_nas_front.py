"""The front of reward against cost: what it holds, how it is shown, and its export."""

import json
import re
from pathlib import Path

import pytest
from analysis_runs import row, write_run, write_stages
from costly_toys import COSTLY
from fake_tasks import TOY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_runs import FLAGS

import nas
from nas.analysis import analyse
from nas.cli import analyze as analyze_command
from nas.cli import export as export_command
from nas.cli import search as search_command
from search_spaces import SPACES, Architecture, InputError, registry
from search_spaces.fcos.choices import join

FIGURES = st.tuples(st.integers(0, 6), st.integers(1, 6) | st.none(), st.sampled_from(["done", "done", "stopped"]))
SPELLINGS = sorted({TOY.architecture((a, b, c)).canonical.tokens for a in range(4) for b in range(4) for c in range(2)})


@pytest.fixture
def known_toy(monkeypatch):
    monkeypatch.setitem(registry.SPACES._entries, "toy", TOY)


@pytest.fixture
def by_hand(tmp_path):
    figures = [(3.0, 5e9), (1.0, 1e9), (2.0, 6e9), (1.0, 1e9), (2.5, 2e9), (9.0, None), (0.5, 1e9)]
    rows = [
        row(tokens, reward, macs=macs) if macs else row(tokens, reward)
        for tokens, (reward, macs) in zip(SPELLINGS, figures, strict=False)
    ]
    return nas.load_run(write_run(tmp_path / "run", rows, target={"macs": 2e9}))


def test_a_front_by_hand(by_hand):
    front = by_hand.front()
    assert list(front.columns) == ["rank", "trial", "reward", "macs", "key", "architecture"]
    assert list(front[["rank", "trial", "reward", "macs"]].itertuples(index=False, name=None)) == [
        (1, 1, 3.0, 5e9),
        (2, 5, 2.5, 2e9),
        (3, 2, 1.0, 1e9),
        (4, 4, 1.0, 1e9),
    ]
    assert [architecture.key for architecture in front.architecture] == list(front.key)
    with pytest.raises(InputError, match="has params among its metrics"):
        by_hand.front("params")
    with pytest.raises(InputError, match="there is no cost 'flops' to draw a front against; known: params, macs"):
        by_hand.front("flops")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FIGURES, min_size=1, max_size=len(SPELLINGS)))
def test_a_front_is_what_a_slow_comparison_of_all_done_pairs_leaves(tmp_path_factory, figures):
    rows = [
        row(tokens, status, float(reward), **({} if cost is None else {"params": float(cost)}))
        for tokens, (reward, cost, status) in zip(SPELLINGS, figures, strict=False)
    ]
    run = nas.load_run(write_run(tmp_path_factory.mktemp("runs") / "run", rows))
    done = {n: (r, c) for n, (r, c, status) in enumerate(figures, 1) if status == "done" and c is not None}
    kept = set()
    for number, (reward, cost) in done.items():
        worse_than = [o for o in done.values() if o != (reward, cost) and o[0] >= reward and o[1] <= cost]
        if not worse_than:
            kept.add(number)
    if not kept:
        with pytest.raises(InputError):
            run.front("params")
        return
    front = run.front("params")
    assert set(front.trial) == kept
    assert list(front.reward) == sorted(front.reward, reverse=True)
    table = analyse(run).tables["pareto"]
    assert set(table.trial[table.params_front.astype(bool)]) == kept


def test_the_front_of_a_progressive_search_is_of_whole_decoders(tmp_path):
    first, second = (SPACES.get(name) for name in ("fcos_fpn", "fcos_head"))
    rows = {
        space.name: [row([token] + [0] * (len(space) - 1), 1.0 + token, macs=5.0 + token) for token in range(2)]
        for space in (first, second)
    }
    run = nas.load_run(write_stages(tmp_path / "run", rows, "fcos_decoder"))
    winner = first.architecture([1] + [0] * (len(first) - 1))
    heads = [second.architecture([token] + [0] * (len(second) - 1)) for token in (1, 0)]
    assert list(run.front().architecture) == [join(winner, head) for head in heads]


# Shown


def test_the_search_shows_the_front_of_its_target_and_the_one_asked_for(tmp_path, capsys):
    flags = [*FLAGS, "--trials", "20", "--workers", "0"]
    flags[flags.index("fake_tasks:TOY")] = "costly_toys:COSTLY"
    assert search_command.main([*flags, "--out", str(tmp_path / "a"), "--target", "params=500"]) == 0
    assert "the front of reward against params: " in capsys.readouterr().out
    assert search_command.main([*flags, "--out", str(tmp_path / "b"), "--pareto"]) == 0
    assert "the front of reward against MACs: " in capsys.readouterr().out
    assert search_command.main(["--resume", str(tmp_path / "b"), "--pareto", "params"]) == 0
    shown = capsys.readouterr().out
    front = nas.load_run(tmp_path / "b").front("params")
    assert f"the front of reward against params: {len(front)}" in shown
    for reward, key in zip(front.reward, front.key, strict=True):
        assert re.search(rf"{reward:.4f}.*{key}", shown)
    assert search_command.main([*flags, "--out", str(tmp_path / "c"), "--pareto", "flops"]) == 2
    assert "setting 'pareto' must be one of params, macs, latency_ms, got 'flops'" in capsys.readouterr().err


def test_analyze_shows_the_front_and_the_report_plots_it_with_the_target(by_hand, tmp_path, capsys):
    assert analyze_command.main([str(by_hand.path), "--pareto", "--out", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr().out
    assert "the front of reward against MACs: 4" in shown
    assert "under macs=2G" in shown
    plot = (tmp_path / "report" / "plots" / "pareto-toy.svg").read_text()
    assert "Pareto front" in plot
    assert "target" in plot
    assert analyze_command.main([str(by_hand.path), "--pareto", "params", "--out", str(tmp_path / "other")]) == 2
    assert "has params among its metrics" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


# Exported


def test_export_writes_every_architecture_of_the_front_by_rank(by_hand, known_toy, capsys):
    assert export_command.main([str(by_hand.path), "--pareto", "--format", "json,svg"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    front = by_hand.front()
    names = [f"front-{rank}-{key}" for rank, key in zip(front["rank"], front.key, strict=True)]
    assert [file.stem for file in files if file.suffix == ".json"] == names
    assert len(list((by_hand.path / "exported").glob("front-*.svg"))) == len(front)
    for file, architecture, macs in zip(files[::2], front.architecture, front.macs, strict=True):
        assert Architecture.load(file) == architecture
        assert json.loads(file.read_text())["macs"] == macs


def test_export_of_a_front_refuses_what_it_cannot_do(by_hand, tmp_path, capsys):
    for arguments, message in [
        ([by_hand.path, "--pareto", "--rank", "2"], "--pareto exports a whole front, --rank is of one network"),
        ([by_hand.path, "--pareto", "--format", "torch", "--weights", "w"], "--weights is of one network"),
        ([by_hand.path, "--pareto", "flops"], "there is no cost 'flops' to draw a front against"),
        ([by_hand.path, "--pareto", "params"], "has params among its metrics"),
        (["nas_fcos", "--pareto"], "--pareto exports the front of a run, but 'nas_fcos' is not a run"),
        ([tmp_path, "--pareto"], "is not a run: it has no run.yaml"),
    ]:
        assert export_command.main([str(argument) for argument in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (by_hand.path / "exported").exists()


def test_a_front_is_by_the_task_s_own_reward(tmp_path):
    told = [row((0, 0, 0), 3.0, params=9.0, told=1.0), row((1, 1, 0), 2.0, params=5.0, told=2.0)]
    run = nas.load_run(write_run(tmp_path / "run", told, space="costly_toys:COSTLY", target={"params": 5}))
    assert list(run.front("params").reward) == [3.0, 2.0]
    assert run.best()[0] == COSTLY.architecture((1, 1, 0))
    rows = analyse(run).tables["pareto"][["reward", "told", "params_front"]]
    assert list(rows.itertuples(index=False, name=None)) == [(3.0, 1.0, True), (2.0, 2.0, True)]
