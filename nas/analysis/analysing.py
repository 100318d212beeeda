"""From runs, finished or being written, to their analyses."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from experiments.families import family_of
from nas.analysis.confirmation import against_references, confirmed, confirmed_scores, references
from nas.analysis.effects import SMALLEST, effects
from nas.analysis.outcomes import failures, statuses, wall_time
from nas.analysis.promoted import correlations, promoted
from nas.analysis.rewards import metrics, pareto, rewards
from nas.analysis.sampling import proportions, proportions_over_time, weight_sharing
from nas.analysis.stage import StageTrials, stage_trials
from nas.analysis.tables import TABLES, Analysis, Best
from nas.run.directory import RunRecord
from nas.run.reading import Contents, Run
from nas.run.rows import scored
from nas.run.verdict import measures, verdicts
from nas.settings.targets import Targets
from search_spaces import InputError

__all__ = ["analyse", "names_apart"]

SHOWN = 5
_BY_STAGE = (
    statuses,
    rewards,
    metrics,
    proportions,
    proportions_over_time,
    weight_sharing,
    pareto,
    failures,
)


def analyse(run: str | Path | Run, name: str | None = None) -> Analysis:
    """The statistics of a run, finished, interrupted or being written; only reads it.

    Args:
        run: the run, or the directory that it is in.
        name: what the analysis is to call the run; None is the name of its directory.

    Raises:
        InputError: there is no run, it is of a newer format, it has no trial, or its space cannot be imported.
    """
    run = run if isinstance(run, Run) else Run(run)
    record, contents = run.record, run.contents()
    if not contents.trials:
        raise InputError(f"the run {run.path} has no trial yet")
    stages = _stages(run, contents)
    tables = _tables(run, contents, stages)
    return Analysis(
        name=name or run.path.resolve().name,
        path=run.path,
        space=record.settings.space,
        controller=record.settings.controller,
        settings=_settings(record, contents),
        stages=tuple(stage.name for stage in stages),
        best=_best(run, contents),
        tables=tables,
        notes=_notes(tables, record),
        plotted=family_of(record.settings.search_space()).plotted,
        verdicts=tuple(verdicts(run.standings(contents), _measures(run))),
        targets=Targets(record.settings.target),
    )


def names_apart(paths: Sequence[str | Path]) -> list[str]:
    """A name for each run: its directory's, with as many of its parents as no other's name ends in.

    Raises:
        InputError: a run is given twice.
    """
    parts = [Path(path).resolve().parts for path in paths]
    for path, own in zip(paths, parts, strict=True):
        if parts.count(own) > 1:
            raise InputError(f"the run {path} is given twice")
    names = []
    for own in parts:
        length = next(k for k in range(1, len(own) + 1) if sum(other[-k:] == own[-k:] for other in parts) == 1)
        names.append("/".join(own[-length:]))
    return names


def _stages(run: Run, contents: Contents) -> list[StageTrials]:
    stages = []
    for stage in contents.stages:
        rows = [row for row in contents.trials if row.stage == stage.name]
        if rows:
            stages.append(stage_trials(stage.name, run.space(stage.name), rows, contents.interim))
    return stages


def _tables(run: Run, contents: Contents, stages: list[StageTrials]) -> dict[str, pd.DataFrame]:
    tables = {make.__name__: _one_below_the_other([make(stage) for stage in stages]) for make in _BY_STAGE}
    of_kinds, of_choices = zip(*(effects(stage) for stage in stages), strict=True)
    tables["effects"], tables["effects_by_choice"] = _one_below_the_other(of_kinds), _one_below_the_other(of_choices)
    tables["wall_time"] = wall_time(stages, run.settings.workers or 1)
    tables["controller"] = _controller(contents, stages)
    tables["promoted"] = promoted(run, contents)
    tables["correlations"] = correlations(tables["promoted"])
    found, named = run.standings(contents), _measures(run)
    tables["references"] = references(contents, Targets(run.settings.target))
    tables["confirmed"] = confirmed(found)
    tables["confirmed_scores"] = confirmed_scores(found, named)
    tables["against_references"] = against_references(found, named)
    assert tables.keys() == TABLES.keys()
    return tables


def _measures(run: Run) -> dict[str, str]:
    return measures(run.settings.reward, family_of(run.settings.search_space()).measure)


def _one_below_the_other(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if not part.empty]  # an empty part's columns have no types of their own
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _controller(contents: Contents, stages: list[StageTrials]) -> pd.DataFrame:
    columns = ["stage", "trial", "name", "value"]
    figures = pd.DataFrame([vars(row) for row in contents.diagnostics], columns=columns).dropna(subset=["value"])
    numbers = pd.concat([stage.frame[["trial", "number"]] for stage in stages])
    return figures.merge(numbers, on="trial")[list(TABLES["controller"])]


def _best(run: Run, contents: Contents) -> tuple[Best, ...]:
    if not scored(contents.trials):
        return ()
    found = run.best_with_trials(SHOWN, contents)
    return tuple(Best(rank, architecture, tuple(trials)) for rank, (architecture, trials) in enumerate(found, 1))


def _settings(record: RunRecord, contents: Contents) -> tuple[str, str, str]:
    own = record.settings
    stages = ", then ".join(stage.name for stage in own.search_space().stages)
    where = f"{own.workers} workers" if own.workers else "in one process"
    sizes = ", ".join(f"{name}={value}" for name, value in own.task.items())
    planned = " + ".join(str(trials) for trials in own.trials or ())
    ended = pd.Series([row.status for row in contents.trials]).value_counts()
    counts = ", ".join(f"{count} {status}" for status, count in ended.items())
    begun = datetime.fromtimestamp(contents.trials[0].started)
    return (
        f"{own.space} ({stages}) on {own.data or 'the built-in shapes'}, backbone {own.backbone or 'by preset'}",
        f"controller {own.controller}, reward {own.reward}, preset {own.preset}, seed {own.seed}, {own.device},"
        f" {where}{'; ' + sizes if sizes else ''}{f'; under {Targets(own.target)}' if own.target else ''}",
        f"{len(contents.trials)} of {planned} trials: {counts}; begun {begun:%Y-%m-%d %H:%M}",
    )


def _notes(tables: dict[str, pd.DataFrame], record: RunRecord) -> dict[str, str]:
    controller = record.settings.controller
    empty = {
        "rewards": "No trial is settled yet.",
        "metrics": "No trial has metrics.",
        "weight_sharing": "The space has no choice of the head's layer from which on weights are shared.",
        "effects": "No trial is done, so no option can be compared.",
        "effects_by_choice": "No trial is done, so no option can be compared.",
        "controller": f"No update of the controller {controller!r} is recorded: it makes none, has too few trials for"
        " one yet, or the run was written before updates were kept.",
        "pareto": "No trial that is done has parameters or multiply-adds among its metrics.",
        "promoted": "No architecture of this run has been trained in full yet.",
        "correlations": "No full training that is done belongs to a reward of this run.",
        "failures": "No trial failed or diverged.",
        "references": "No references were scored: the family of the space names none, or the run is of a version that"
        " had none.",
        "confirmed": "Nothing is confirmed: the search is not at its end, was told not to (--confirm 0), or is of"
        " a version that did not.",
    }
    empty |= dict.fromkeys(("confirmed_scores", "against_references"), empty["confirmed"])
    notes = {name: sentence for name, sentence in empty.items() if tables[name].empty}
    if not tables["rewards"].empty and tables["rewards"].reward.isna().all():
        notes["rewards"] = "No trial has a reward."
    notes |= _notes_on_intervals(tables, controller)
    few = tables["correlations"].kendall.isna().sum()
    if few:
        notes["correlations"] = f"{few} of the correlations cannot be had: they need three different pairs."
    return notes


def _notes_on_intervals(tables: dict[str, pd.DataFrame], controller: str) -> dict[str, str]:
    notes = {}
    for name in ("effects", "effects_by_choice"):
        found = tables[name]
        if found.empty:
            continue
        without = int(found.low.isna().sum())
        sentences = []
        for stage, score in found[["stage", "score"]].drop_duplicates().itertuples(index=False):
            if score != "final":
                sentences.append(
                    f"Trials of {stage} were stopped early, so its effects are of the interim scores at {score}, which"
                    " the stopped trials have too; over those that were trained to their end alone, the best by their"
                    " interim scores, differences would come out too small."
                )
        if without:
            sentences.append(
                f"{without} of {len(found)} options have no interval and no test: fewer than {SMALLEST} trials use"
                " them more or less often than the rest."
            )
        if controller != "random":
            sentences.append(
                "A controller that learns draws what it found good more often and together, so that an option is also"
                " credited with its company; a random run has no such bias."
            )
        if sentences:
            notes[name] = " ".join(sentences)
    return notes
