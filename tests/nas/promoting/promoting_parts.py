"""Flags of small promotions, and how their tables and rows are read."""

import nas

SIZES = ["crop_height=32", "crop_width=32", "batch_size=2"]
TINY = ["--device", "cpu", "--set", "backbone=tiny", "width=16", *SIZES]
VIDEO = ["--recipe", "camvid_video", "--device", "cpu", "--iterations", "1", "--set", "cell_epochs=1", *SIZES]
SEARCH = [
    "--space", "video_cell", "--device", "cpu", "--controller", "random", "--trials", "2", "--confirm", "0",
    "--backbone", "tiny",
    "--set", "long_side=48", "crop_height=48", "crop_width=48", "batch_size=2", "epochs=1", "width=16",
]  # fmt: skip


def run(main, *arguments):
    assert main([str(argument) for argument in arguments]) == 0


def the(folder, pattern):
    """The one path in a folder that a pattern fits."""
    (found,) = folder.glob(pattern)
    return found


def rows(text):
    """The table's rows as lists of cells."""
    lines = [line.split("│")[1:-1] for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines]


def promotions(run):
    return {row.key: row for row in nas.load_run(run).contents().promotions}
