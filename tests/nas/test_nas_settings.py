import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nas.cli.search import _parser, _values
from nas.run.directory import RunRecord, read_record, write_record
from nas.searching.plan import make_plan, resolve, task_factory
from nas.settings import SearchSettings, dump_yaml, load_yaml, read_config
from proxy_tasks import TaskOptions
from search_spaces import Choice, InputError, SearchSpace

ALL = {
    "space": "fcos_fpn",
    "data": "/tmp",
    "trials": (3, 4),
    "confirm": (4, 2),
    "confirm_by": "metric",
    "pareto": "params",
    "workers": 2,
    "gpus_per_worker": 0.5,
    "ray_address": "auto",
    "hours": 1.5,
    "trial_timeout": 900.0,
    "controller": "random",
    "controller_options": {"population": 8},
    "start_from": ("nas_fcos", "runs/mine"),
    "reward": "metric",
    "early_stopping": False,
    "preset": "paper",
    "device": "cpu",
    "seed": 7,
    "out": "/tmp/out",
    "cache_dir": "/tmp/cache",
    "backbone": "resnet50",
    "backbone_weights": "none",
    "target": {"macs": 1e8, "params": 2e5},
    "reuse": ("/tmp/one", "/tmp/two"),
    "static": "/tmp/arch2.safetensors",
    "skip_bad_boxes": True,
    "imports": ("mine", "yours.parts"),
    "task": {"crop": 192, "learning_rate": 8e-4},
}
FLAGS = """--space fcos_fpn --data /tmp --trials 3,4 --confirm 4,2 --confirm-by metric --pareto params
    --workers 2 --gpus-per-worker 0.5 --ray-address auto
    --hours 1.5 --trial-timeout 900
    --controller random --reward metric --no-early-stopping --preset paper --device cpu --seed 7
    --out /tmp/out --cache-dir /tmp/cache --backbone resnet50 --backbone-weights none --static /tmp/arch2.safetensors
    --reuse /tmp/one,/tmp/two --target macs=0.1G params=200k
    --start-from nas_fcos,runs/mine --skip-bad-boxes --import mine,yours.parts --set crop=192 learning_rate=8e-4"""
YAML = """
space: fcos_fpn
data: /tmp
trials: [3, 4]
confirm: [4, 2]
confirm_by: metric
pareto: params
workers: 2
gpus_per_worker: 0.5
ray_address: auto
hours: 1.5
trial_timeout: 900
controller: random
controller_options: {population: 8}
start_from: [nas_fcos, runs/mine]
reward: metric
early_stopping: false
preset: paper
device: cpu
seed: 7
out: /tmp/out
cache_dir: /tmp/cache
backbone: resnet50
backbone_weights: none
target: {macs: 0.1G, params: 200_000}
reuse: [/tmp/one, /tmp/two]
static: /tmp/arch2.safetensors
skip_bad_boxes: true
imports: [mine, yours.parts]
task:
  crop: 192
  learning_rate: 8e-4
"""


def from_flags(text):
    return _values(vars(_parser().parse_args(text.split())))


def test_flags_yaml_and_python_agree_on_every_setting(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(YAML)
    expected = SearchSettings.of(ALL)
    assert set(ALL) == set(expected.as_dict())
    assert SearchSettings.of(read_config(file)) == expected
    assert SearchSettings.of({**from_flags(FLAGS), "controller_options": {"population": 8}}) == expected
    assert SearchSettings.of(expected.as_dict()) == expected


def test_set_is_repeatable_and_reads_values_as_yaml_does():
    given = from_flags("--set crop=192 width=32-64 --set fast=true rate=1e-3")
    assert given == {"task": {"crop": 192, "width": "32-64", "fast": True, "rate": 1e-3}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"worker": 2}, r"there is no setting 'worker'; known: space, .*did you mean 'workers'\?"),
        ({"workers": -1}, r"setting 'workers' must be a whole number of at least 0, got -1"),
        ({"workers": True}, r"setting 'workers' must be a whole number .*, got True"),
        ({"workers": 1.0}, r"setting 'workers' must be a whole number .*, got 1.0"),
        ({"seed": 1.5}, r"setting 'seed' must be a whole number of at least 0, got 1.5"),
        ({"trials": 0}, r"setting 'trials' must be a whole number of at least 1, or one a stage .*, got 0"),
        ({"trials": "30;15"}, r"setting 'trials' must be .*, got '30;15'"),
        ({"trials": []}, r"setting 'trials' must be .*, got \[\]"),
        ({"gpus_per_worker": 1.5}, r"setting 'gpus_per_worker' must be a number of GPUs: .*, got 1.5"),
        ({"gpus_per_worker": float("nan")}, r"setting 'gpus_per_worker' must be .*, got nan"),
        ({"hours": 0}, r"setting 'hours' must be a number of hours above 0, got 0"),
        ({"trial_timeout": "1h"}, r"setting 'trial_timeout' must be a number of seconds above 0, got '1h'"),
        ({"reward": "ap"}, r"setting 'reward' must be one of loss, metric, got 'ap'"),
        ({"device": "tpu"}, r"setting 'device' must be one of auto, cpu, cuda, got 'tpu'"),
        ({"space": ""}, r"setting 'space' must be a text, got ''"),
        ({"early_stopping": "no"}, r"setting 'early_stopping' must be true or false, got 'no'"),
        ({"static": 3}, r"setting 'static' must be a path, got 3"),
        ({"skip_bad_boxes": "yes"}, r"setting 'skip_bad_boxes' must be true or false, got 'yes'"),
        ({"task": [1]}, r"setting 'task' must be a mapping of names to values, got \[1\]"),
        ({"controller_options": {1: 2}}, r"setting 'controller_options' must be a mapping"),
    ],
)
def test_a_bad_value_is_one_sentence_with_setting_rule_and_value(values, message):
    with pytest.raises(InputError, match=message):
        SearchSettings.of(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: fcos_fpn\nworker: 2\n", r"settings.yaml, line 2: there is no setting 'worker'; known: .*workers"),
        ("seed: 1\n\nseed: 2\n", r"settings.yaml, line 3: setting 'seed' is given twice"),
        ("# a comment\nworkers: '2'\n", r"settings.yaml, line 2: setting 'workers' must be a whole number"),
        ("space: [fcos_fpn\nseed: 1\n", r"settings.yaml, line \d: not YAML: "),
        ("- space\n", r"settings.yaml: a settings file is a YAML mapping, got list"),
        ("", r"settings.yaml: a settings file is a YAML mapping, got NoneType"),
        ("space: !!python/object:os.system x\n", r"settings.yaml, line 1: not YAML: "),
    ],
)
def test_a_bad_settings_file_is_told_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(file)


def test_a_missing_settings_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the settings file .*none.yaml: .*No such file"):
        read_config(tmp_path / "none.yaml")


def test_settings_are_resolved_by_device_preset_and_stages():
    resolved = resolve(SearchSettings(space="fcos_decoder", device="cpu"))
    assert (resolved.preset, resolved.trials) == ("demo", (50, 20))
    assert resolve(SearchSettings(device="cpu", preset="paper")).trials == (2800, 600)
    assert resolve(SearchSettings(device="cpu", space="fcos_head")).trials == (30,)
    assert resolve(SearchSettings(device="cpu", trials=5)).trials == (5, 5)
    assert resolve(resolved) == resolved
    with pytest.raises(InputError, match=r"trials gives 3 figures, but 'fcos_decoder' has 2 stage\(s\): fcos_fpn, "):
        resolve(SearchSettings(device="cpu", trials=(1, 2, 3)))


VIDEO = SearchSpace("video", (Choice("op", "op", ("a", "b")),), proxy_task="video")


def test_the_reward_without_a_word_is_the_task_s_own():
    def reward(space, **values):
        return resolve(SearchSettings(space=space, device="cpu", **values)).reward

    assert reward("fcos_decoder") == reward("fake_tasks:TOY") == "loss"
    assert reward("test_nas_settings:VIDEO") == "metric"
    assert reward("test_nas_settings:VIDEO", reward="loss") == "loss"
    assert reward("fcos_fpn", reward="metric") == "metric"


def test_a_static_network_is_for_video_alone():
    settings = SearchSettings(space="test_nas_settings:VIDEO", device="cpu", static="arch2.pt")
    factory = task_factory(*make_plan(resolve(settings)), resolve(settings), None)
    (options,) = (value for value in factory.args if isinstance(value, TaskOptions))
    assert options.static == settings.static
    with pytest.raises(InputError, match=r"setting 'static' is for video spaces, and 'fcos_fpn' is none; leave it out"):
        resolve(settings.changed(space="fcos_fpn"))


def test_the_record_of_a_run_from_before_a_setting_has_its_default(tmp_path):
    write_record(tmp_path, RunRecord(resolve(SearchSettings(device="cpu", seed=3))))
    lines = (tmp_path / "run.yaml").read_text().splitlines()
    older = [line for line in lines if line.strip().partition(":")[0] not in ("early_stopping", "static")]
    assert len(lines) - len(older) == 2
    (tmp_path / "run.yaml").write_text("\n".join(older))
    settings = read_record(tmp_path).settings
    assert (settings.seed, settings.early_stopping, settings.static) == (3, True, None)


def test_a_space_of_ones_own_is_one_stage():
    (stage,) = make_plan(resolve(SearchSettings(space="fake_tasks:TOY", device="cpu", trials=9)))
    assert (stage.name, stage.trials, len(stage.space)) == ("toy", 9, 3)
    with pytest.raises(InputError, match=r"there is no search space 'fcos_fnp'; known: .*; did you mean 'fcos_fpn'"):
        resolve(SearchSettings(space="fcos_fnp", device="cpu"))


TEXTS = st.text("019eE.+-_:#'\"{}[] ,&*!|>%@`~xyn", min_size=1, max_size=8)


@given(st.dictionaries(TEXTS, TEXTS))
@example({"features": "683216167e358399"})
@example({"features": "1e5", "12": "1_0", "true": "null", "~": "0x1F"})
def test_texts_that_look_like_numbers_stay_texts(content):
    assert load_yaml(dump_yaml(content), "here") == content
