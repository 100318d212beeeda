"""``nas-search``: starts a search, or goes on with one."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from nas.cli.errors import exit_status
from nas.settings import SearchSettings, read_config, read_literal, read_pair

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-search`` and returns its exit status."""
    return exit_status("nas-search", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-search",
        description="Search a space of architectures; every trial trains and scores one on a scaled-down task.",
        epilog="Precedence: flag, then --config, then default. Exit status: 0 done, 1 failed, 2 bad input,"
        " 130 interrupted (go on with --resume).",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; needs no other setting")
    parser.add_argument("--config", metavar="FILE.yaml", help="settings by name, in YAML")
    for item in fields(SearchSettings):
        flag = item.metadata["flag"]
        if flag is None:
            continue
        has_default = not (item.default in (None, ()) or item.default is MISSING or isinstance(item.default, bool))
        shown = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
        default = f" (default: {shown})" if has_default else ""
        options: dict[str, Any] = {"dest": item.name, "help": item.metadata["help"] + default}
        if isinstance(item.default, bool):
            options["action"] = "store_false" if item.default else "store_true"
        else:
            options["metavar"] = item.metadata["metavar"]
        if item.default is MISSING:
            options |= {"action": "extend", "nargs": "+"}
        if "alone" in item.metadata:
            options |= {"nargs": "?", "const": item.metadata["alone"]}
        parser.add_argument(flag or "--" + item.name.replace("_", "-"), **options)
    return parser


def _values(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags' texts as values of their settings."""
    values = {}
    for item in fields(SearchSettings):
        if item.name not in flags:
            continue
        given = flags[item.name]
        if item.default is MISSING and not item.metadata["kind"].is_text:
            values[item.name] = dict(read_pair(item.metadata["flag"], text) for text in given)
        elif isinstance(given, str) and not item.metadata["kind"].is_text:
            values[item.name] = read_literal(given)
        else:
            values[item.name] = given
    return values


def _run(arguments: Sequence[str] | None) -> None:
    flags = vars(_parser().parse_args(arguments))
    config = read_config(flags["config"]) if "config" in flags else {}
    given = _values(flags)
    values = {**config, **given}
    if "task" in config and "task" in given:
        values["task"] = {**(config["task"] or {}), **given["task"]}
    settings = SearchSettings.of(values)

    from nas.searching.plan import with_workers
    from nas.searching.search import resume, start

    if "resume" in flags:
        resume(flags["resume"], **values)
    else:
        start(with_workers(settings))


if __name__ == "__main__":
    sys.exit(main())
