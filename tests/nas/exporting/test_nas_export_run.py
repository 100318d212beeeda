"""``nas-export --format json`` of runs and files."""

import json
from pathlib import Path

import pytest
from fake_tasks import TOY, reward_of

from nas.cli import export as export_command
from search_spaces import Architecture, registry


@pytest.fixture
def known_toy(monkeypatch):
    monkeypatch.setitem(registry.SPACES._entries, "toy", TOY)


def test_export_writes_a_run_s_architecture_with_its_provenance(run, known_toy, capsys):
    assert export_command.main([str(run.path), "--rank", "2"]) == 0
    file = capsys.readouterr().out.strip()
    best = run.best(2)[1]
    assert file == str(run.path / "exported" / f"{best.key}.json")
    assert Architecture.load(file) == best
    content = json.loads(Path(file).read_text())
    (trial,) = content["trials"]
    assert content["reward"] == reward_of(best) == run.trials.set_index("trial").reward[trial]
    assert (content["run"], content["data"], content["choices"]) == ("run", "toys", best.named)


def test_export_copies_an_architecture_file(run, known_toy, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(run.best()[0].to_json())
    assert export_command.main([str(file), "--out", str(tmp_path / "out")]) == 0
    assert Architecture.load(capsys.readouterr().out.strip()) == run.best()[0]


def test_export_refuses_what_it_cannot_do(run, tmp_path, capsys):
    file = tmp_path / "broken.json"
    file.write_text('{"format": 1, "space": "no such", "choices": {}}')
    for arguments, message in [
        ([str(run.path), "--format", "pdf"], "there is no export format 'pdf'; known: json"),
        ([str(run.path), "--rank", "0"], "--rank must be a whole number of at least 1, got '0'"),
        ([str(run.path), "--rank", "999"], "so no rank 999"),
        ([str(tmp_path)], "is not a run: it has no run.yaml"),
        ([str(file)], "broken.json: there is no search space 'no such'"),
        ([str(file), "--rank", "2"], "--rank chooses among a run's trials"),
        ([str(tmp_path / "none.json")], "cannot read the architecture file"),
    ]:
        assert export_command.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("nas-export: ")
        assert message in line
