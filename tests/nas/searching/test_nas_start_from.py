"""``--start-from``: known architectures are proposed first, by any controller, and a run needs their files no more."""

import re

import pytest
from fake_tasks import TOY, ToyTask, reward_of
from test_nas_kill import finish, start, wait_for_rows
from toy_runs import half

import nas
import proxy_tasks
import search_spaces
from experiments import published
from nas.cli import search as search_command
from nas.searching.plan import make_plan, resolve
from nas.settings import SearchSettings, dump_yaml
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.fcos.choices import join, split

CONTROLLERS = ("lstm-ppo", "evolution", "random", "optuna:tpe")


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """A toy task scores decoders, too."""
    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", ToyTask)


def first(run, stage):
    """The choices of a stage's rows, as architectures of its space."""
    space = run.space(stage)
    return [space.from_named(row.choices) for row in run.contents().trials if row.stage == stage]


def search(tmp_path, *names, space="fcos_decoder", controller="random", trials=(4, 4), **settings):
    return nas.search(
        space,
        controller=controller,
        trials=trials,
        start_from=list(names),
        out=tmp_path / "run",
        device="cpu",
        **settings,
    )


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller_proposes_the_parts_of_a_decoder_first(tmp_path, controller):
    run = search(tmp_path, "fpn_like", "nas_fcos_head", controller=controller)
    fpn, head = split(published.load("fpn_like"))
    assert first(run, "fcos_fpn")[0] == fpn
    assert first(run, "fcos_head")[:2] == [head, published.load("nas_fcos_head")]
    assert list(run.trials.status) == ["done"] * 8
    assert run.trials.reward[0] == reward_of(fpn)
    assert len({architecture.key for architecture in first(run, "fcos_fpn")}) == 4


def test_a_file_a_run_and_an_architecture_start_a_search_and_its_run_needs_none_of_them(tmp_path, capsys):
    former = search(tmp_path / "former", space="fcos_head", trials=8)
    best = former.best(5)
    file = tmp_path / "mine.json"
    file.write_text(published.load("nas_fcos_head").to_json())
    names = f"{file},{former.path},{file}"
    flags = f"--space fcos_head --controller evolution --trials 7 --device cpu --start-from {names}"
    assert search_command.main([*flags.split(), "--out", str(tmp_path / "run")]) == 0
    wanted = [published.load("nas_fcos_head"), *best]  # given twice, proposed once
    run = nas.load_run(tmp_path / "run")
    assert first(run, "fcos_head")[:6] == wanted
    assert [item["from"] for item in run.settings.start_from] == [str(file), *[str(former.path)] * 5, str(file)]
    before = first(run, "fcos_head")
    file.unlink()
    assert search_command.main(["--resume", str(run.path), "--trials", "9"]) == 0
    assert first(nas.load_run(run.path), "fcos_head")[:7] == before
    again = search(tmp_path / "again", *wanted[:2], space="fcos_head", trials=3)
    assert first(again, "fcos_head")[:2] == wanted[:2]


def test_a_yaml_file_lists_them(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text(dump_yaml({"space": "fcos_head", "start_from": ["fpn_like_head", "nas_fcos_head"]}))
    flags = f"--config {config} --controller random --trials 2 --device cpu --out {tmp_path / 'run'}"
    assert search_command.main(flags.split()) == 0
    names = ("fpn_like_head", "nas_fcos_head")
    assert first(nas.load_run(tmp_path / "run"), "fcos_head") == [published.load(name) for name in names]


@pytest.mark.parametrize("trials", [0, 1, 2, 5])
def test_a_search_that_stops_among_them_goes_on_with_the_others(tmp_path, trials):
    given = [TOY.architecture(tokens) for tokens in ((0, 1, 0), (3, 3, 1), (1, 0, 0), (2, 1, 1))]
    settings = {"controller": "evolution", "start_from": given}
    half(tmp_path / "stopped", trials, **settings)
    stopped = nas.resume(tmp_path / "stopped" / "run").trials.drop(columns="seconds")
    half(tmp_path / "calm", 0, **settings)
    calm = nas.resume(tmp_path / "calm" / "run").trials.drop(columns="seconds")
    assert stopped.equals(calm)
    # The third is the first, its inputs exchanged: the same network is not evaluated twice.
    assert first(nas.load_run(tmp_path / "calm" / "run"), "toy")[:3] == [given[0], given[1], given[3]]


def test_a_search_killed_among_them_goes_on(tmp_path):
    flags = "--space fcos_head --controller random --trials 6 --device cpu --start-from fpn_like_head,nas_fcos_head"
    toys = "--import toy_decoders --set sleep=0.3"
    path = tmp_path / "run"
    process = start(*flags.split(), *toys.split(), "--out", str(path))
    wait_for_rows(path, 1, process)
    process.kill()
    process.communicate()
    finish(start("--resume", str(path)))
    run = nas.load_run(path)
    assert [row.status for row in run.contents().trials] == ["done"] * 6
    assert first(run, "fcos_head")[:2] == [published.load(name) for name in ("fpn_like_head", "nas_fcos_head")]


def starts(space, *names, trials=9):
    settings = SearchSettings(space=space, trials=trials, device="cpu", start_from=names)
    return [list(stage.start) for stage in make_plan(resolve(settings))]


def test_each_stage_takes_what_answers_its_choices():
    fpn, head = published.load("fpn_like_fpn"), published.load("fpn_like_head")
    assert starts("fcos_decoder", "fpn_like") == [[fpn], [head]]
    assert starts("fcos_decoder", "fpn_like_fpn") == [[fpn], []]
    assert starts("fcos_decoder", "fpn_like_head", "fpn_like") == [[fpn], [head]]
    assert starts("fcos_head", "fpn_like") == [[head]]  # a decoder's head
    parts = [published.load(name) for name in ("nas_fcos_fpn", "nas_fcos_head")]
    assert starts("fcos_decoder_c2", "nas_fcos") == [[part] for part in parts]
    # NAS-FCOS takes no C2, so that the smaller space has it too, by the same names.
    ((searched,), _) = starts("fcos_decoder", "nas_fcos")
    assert searched.named == parts[0].named
    assert join(searched, head).space.name == "fcos_decoder"


@pytest.mark.parametrize(
    ("space", "names", "message"),
    [
        (
            "fcos_decoder",
            "nas_fcs",
            "setting 'start_from': 'nas_fcs' is neither a run's directory, nor an architecture",
        ),
        (
            *("fcos_decoder", "fpn_fcos"),
            "setting 'start_from': fpn_fcos is an architecture of fpn_fcos, but fcos_decoder starts from those of"
            " fcos_decoder or fcos_fpn or fcos_head$",
        ),
        ("fcos_fpn", "fpn_like_head", "fpn_like_head is an architecture of fcos_head, but fcos_fpn starts from those"),
        ("video_cell", "fpn_like", "fpn_like is an architecture of fcos_decoder, but video_cell starts from those of"),
        (
            *("fcos_decoder", "c2.json"),
            "c2.json is an architecture of fcos_fpn_c2 that fcos_fpn does not have: choice 'fpn.1.x1' has no option",
        ),
        ("fcos_decoder", "bad.json", "setting 'start_from': bad.json: not JSON, line 1"),
        ("fcos_decoder", ".", "setting 'start_from': . is not a run: it has no run.yaml"),
        ("fcos_head", "fpn_like_head,nas_fcos_head", "stage fcos_head has 1 trials, but is to start from 2 architect"),
        ("fake_tasks:TOY", "toy.json", "the controller 'fake_tasks:ToyController' cannot start from given architectur"),
        ("fcos_decoder", ",", "setting 'start_from' must be names, architecture files or runs, as in .*, got ','"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_starts(tmp_path, monkeypatch, capsys, space, names, message):
    monkeypatch.chdir(tmp_path)
    c2 = Architecture.of("fcos_fpn_c2", (0,) * 35)
    (tmp_path / "c2.json").write_text(c2.to_json())
    (tmp_path / "bad.json").write_text("{")
    monkeypatch.setitem(search_spaces.SPACES._entries, "toy", TOY)
    (tmp_path / "toy.json").write_text(TOY.architecture((0, 1, 0)).to_json())
    controller = "fake_tasks:ToyController" if "TOY" in space else "random"
    flags = f"--space {space} --controller {controller} --device cpu --trials 1 --start-from {names} --out run"
    assert search_command.main(flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


def test_the_same_names_in_another_family_are_another_thing():
    head = published.load("fpn_like_head")
    alien = SearchSpace("alien", head.space.choices, proxy_task="fake_tasks:ToyTask").architecture(head.tokens)
    with pytest.raises(InputError, match=r"an architecture of alien, but fcos_head starts from those of fcos_head$"):
        starts("fcos_head", alien)
