"""The lines of Python in docs/tutorial_photo_z.md run, one after the other, and give what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial_photo_z.md"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(lines) == 5
    made = {}
    for block in lines:
        exec(block, made)
    told = capsys.readouterr().out
    assert "do not integrate to 1 in 300 of 300 rows" in told
    # 300 objects: 2.7 points each.
    assert abs(made["covered"](made["masses"]) - 0.683) < 5 * 0.027
    assert made["covered"](made["taken_as_exact"]) < 0.683 - 0.08
    cube, mass, z = made["cube"], np.exp(made["ln_mass"]), made["z_true"]
    for i, (low, high) in enumerate([(0.05, 0.35), (0.35, 0.5), (0.5, 1.0)]):
        drawn = cube.slice_draws[i]
        assert abs(mass[(z >= low) & (z < high)].sum() - drawn.mean()) < 6 * drawn.std()
