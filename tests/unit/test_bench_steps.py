"""The table of where the time of a delivery goes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.bench import steps


@pytest.mark.parametrize(("where", "label"), [*steps.INGRESS, *steps.WORKER])
def test_what_is_to_be_written_down_is_there(where: str, label: str) -> None:
    """A step whose method has another name now would be missing from the table, and its time be another's."""
    module, _, name = where.partition(":")
    kind, _, method = name.partition(".")
    assert label
    assert callable(getattr(getattr(import_module(module), kind), method))


def test_a_step_is_the_median_of_the_first_times_of_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "steps"
    lines = ["0.5 7 begin runner h"]  # before the first post
    for post, took in ((10.0, 0.1), (20.0, 0.3), (30.0, 0.2)):
        lines += (f"{post + took} 7 begin runner h", f"{post + took + 0.01} 7 begin claim")
        lines += (f"{post + took + 0.02} 7 end claim", f"{post + took + 0.03} 7 begin claim")
        lines += (f"{post + took + 0.04} 7 end runner h", f"{post + took + 0.05} 8 begin claim")
    lines += ("20.4 9 begin seldom", "32.0 7 begin runner h", "32.0 7 begin late")  # long after its post
    file.write_text("\n".join(reversed([line.replace(" ", "\t", 3) for line in lines])))
    found = {label: round(at, 3) for label, at in steps.table(file, [10.0, 20.0, 30.0], 1.0)}
    assert found == {
        "runner h begin": 0.2,
        "runner h: claim begin": 0.21,
        "runner h: claim end": 0.22,
        "runner h end": 0.24,
        "claim begin": 0.25,
    }
