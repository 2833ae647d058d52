"""`Step`: a line of text about work that goes on, which also says how much of it is done."""


class Step(str):
    """A line about work that goes on, such as "mass map: 200 of 1,000 objects".

    What a function with the argument `watch` calls it with. Whoever only prints lines can print this one; whoever draws
    a bar takes the numbers.

    Parameters
    ----------
    what : str
        The work.
    done, total : int
        How much of it is done, and how much there is.
    unit : str
        What is counted.

    Attributes
    ----------
    what, done, total
        As they were given.

    Examples
    --------
    >>> from massmap_jax.steps import Step
    >>> step = Step("mass map", 200, 1000, "objects")
    >>> print(step, step.done / step.total)
    mass map: 200 of 1,000 objects 0.2
    """

    what: str
    done: int
    total: int

    def __new__(cls, what: str, done: int, total: int, unit: str = "") -> "Step":
        step = super().__new__(cls, f"{what}: {done:,} of {total:,} {unit}".rstrip())
        step.what, step.done, step.total = what, done, total
        return step
