"""The good field that every hostile file encodes: 20 objects whose numbers float32 and int32 hold exactly.

A hostile file that is read at all must give these objects the masses that the plain CSV gives, so each value
is an integer or a multiple of a power of two.
"""

import numpy as np

NUM = 20

# Not in sorted order, so that a reader that sorts or re-indexes is seen.
IDS = np.array([f"obj-{(7 * i + 13) % NUM:03d}" for i in range(NUM)])
INTEGER_IDS = 2**60 + 1 + 7 * ((np.arange(NUM) * 13) % NUM)  # beyond 2**53: a trip through float64 merges neighbours

RA = 150.0 + np.array([(37 * i) % 101 for i in range(NUM)]) / 256  # degrees, 0.4 wide
DEC = 2.0 + np.array([(53 * i) % 97 for i in range(NUM)]) / 256
REDSHIFT = (6 + np.array([(11 * i) % 27 for i in range(NUM)]) * 4) / 64  # 0.09 to 1.7
SIGMA = np.full(NUM, 0.0625)

_LOG10_MASS = 12.5 + 1.8 * np.array([(17 * i) % NUM for i in range(NUM)]) / NUM
LUM = np.round(np.exp(10.709) * (10**_LOG10_MASS / 2.35e14) ** 0.359 * (1 + REDSHIFT) ** 1.1).astype(np.int64)

COLUMNS = {"name": IDS, "ra": RA, "dec": DEC, "z": REDSHIFT, "lum": LUM, "sigma": SIGMA}


def as_text(value):
    """A value as a person's script would print it; text goes through as it is."""
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if isinstance(value, int | np.integer) else repr(float(value))


def rows(columns=None):
    """The columns as a list of rows of text."""
    columns = COLUMNS if columns is None else columns
    return [[as_text(v) for v in row] for row in zip(*columns.values(), strict=True)]


def csv_text(columns=None, *, delimiter=",", end="\n"):
    columns = COLUMNS if columns is None else columns
    lines = [delimiter.join(columns), *(delimiter.join(row) for row in rows(columns))]
    return end.join(lines) + end


def changed(**columns):
    """The good columns with some replaced or added."""
    return {**COLUMNS, **columns}


def with_value(column, row, value):
    """The good columns with one value of one column replaced (the column becomes text where it must)."""
    values = [as_text(v) for v in COLUMNS[column]]
    values[row] = value
    return changed(**{column: values})
