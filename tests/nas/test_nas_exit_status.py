"""What ends a command, as exit status and sentence."""

import errno

import pytest

from nas.cli.errors import exit_status
from search_spaces import InputError, get


def raises(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (what it prints to)"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/table.csv"), "the disk is full (/tmp/table.csv)"),
    ],
)
def test_a_full_disk_is_a_sentence(error, sentence, capsys):
    assert exit_status("nas-analyze", raises(error)) == 1
    assert capsys.readouterr().err == f"nas-analyze: {sentence}\n"


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/root/a.csv"), "/root/a.csv: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.1", None, "a"), "a: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_had_is_a_sentence(error, place, capsys):
    assert exit_status("nas-analyze", raises(error)) == 2
    assert capsys.readouterr().err == f"nas-analyze: cannot read or write {place}\n"


def test_any_other_error_of_a_file_shows_where_it_came_from(capsys):
    assert exit_status("nas-analyze", raises(PermissionError(errno.EACCES, "Permission denied"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_space_of_another_program_s_script_is_told_from_a_misspelt_one():
    with pytest.raises(InputError, match=r"'__main__:SPACE' cannot be had: it was defined in a script or a notebook"):
        get("__main__:SPACE")
