"""Lines about work that goes on."""

from massmap_jax.steps import Step


def test_it_is_a_line_of_text_with_numbers():
    step = Step("mass map", 2000, 10_000, "objects")
    assert step == "mass map: 2,000 of 10,000 objects" and isinstance(step, str)
    assert (step.what, step.done, step.total) == ("mass map", 2000, 10_000)
    assert Step("sampling", 50, 1000) == "sampling: 50 of 1,000"
