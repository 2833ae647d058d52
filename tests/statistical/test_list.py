"""The table of false alarms lists every file that has a statistical assertion."""

from pathlib import Path

from statistical.false_alarms import EXACT, FILES, assertions_in

TESTS = Path(__file__).resolve().parent.parent


def test_no_file_with_a_statistical_assertion_is_left_out():
    names = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
    assert names >= set(FILES) | EXACT and not EXACT & set(FILES)
    assert [name for name in sorted(names - EXACT) if bool(assertions_in([name])) != (name in FILES)] == []
