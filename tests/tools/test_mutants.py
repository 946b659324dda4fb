"""The simulation's table of mutants still fits the rule that it changes."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "simulation"))
import mutants


def test_each_mutant_can_be_made(tmp_path):
    rows = mutants.table()
    assert len(rows) >= 60
    for row in rows:
        mutants.mutate(row, tmp_path)
