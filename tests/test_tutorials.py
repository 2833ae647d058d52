"""The tutorials of the docs do what they say: every block of code runs, and prints what the page shows of it."""

from pathlib import Path

import pytest
from pages_that_run import run_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Run elsewhere: other files have compiled what they need, and test_tutorial_photo_z.py checks more.
ELSEWHERE = {"tutorial_weak_lensing", "tutorial_photo_z", "tutorial_cosmology", "tutorial_satellites"}
PAGES = [page for page in sorted(DOCS.glob("tutorial_*.md")) if page.stem not in ELSEWHERE]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(encoding="utf-8"), tmp_path)


def test_a_wrong_page_is_noticed(tmp_path):
    right = "```python\nprint('mass 14.02 +- 0.1')\n```\n```text\nmass 14.0 +- 0.1\n```\n"
    run_page(right, tmp_path)
    run_page(right.replace("mass 14.0 +- 0.1", "mass 14.0 ..."), tmp_path)
    for wrong in (right.replace("mass 14.0 ", "mass 12.0 "), right.replace("mass 14.0 +- 0.1", "masses ...")):
        with pytest.raises(AssertionError, match="the page shows"):
            run_page(wrong, tmp_path)
    with pytest.raises(AssertionError):
        run_page("```bash\nmassmap-jax run absent.csv --out out\n```\n", tmp_path)
