"""Scale, kills and maps: runs too long to repeat here, read from benchmarks/results, and the test of kills itself."""

import json
import os
import re
import subprocess
import sys

from provenance import REPOSITORY, RESULTS

from validate.record import Number, Row, Section, at_least, at_most, source_of

KILLS = 20


def stream_rows() -> list[Row]:
    rows = []
    for name in ("stream-10000000", "stream-100000000"):
        path = RESULTS / f"{name}.json"
        if not path.exists():
            rows.append(Row(f"Stream: {name}", {}, "", not_run="no recorded run; benchmarks/programs/stream_speed.py"))
            continue
        found = json.loads(path.read_text())
        rows.append(
            Row(
                f"{found['rows']:,} rows stream through little memory, with posteriors as exact as demanded",
                {
                    "million rows a second": Number(found["rows a second"] / 1e6),
                    "peak memory [GiB]": Number(found["peak memory GiB"]),
                    "mean off [sd]": Number(found["error of the surface"]["mean"]),
                    "quantiles off [sd]": Number(found["error of the surface"]["quantiles"]),
                    "time over that of reading and writing": Number(found["ratio"]),
                },
                "simulated rows (`benchmarks/programs/stream_speed.py`)",
                {
                    "peak memory [GiB]": at_most(2.0),
                    "mean off [sd]": at_most(0.01),
                    "quantiles off [sd]": at_most(0.01),
                },
                source=source_of(found),
            )
        )
    return [*rows, long_row()]


def long_row() -> Row:
    """Chunks from the first to the last of a long run, and where they lead in a straight line."""
    found = json.loads((RESULTS / "stream-long.json").read_text())
    memory, seconds, onward = found["memory GiB"], found["processor s a chunk"], found["extrapolated to 10^9 rows"]
    growth = memory["last fifth"] / memory["second fifth"]
    return Row(
        "A stream takes its last chunks as it takes the first ones, so 10^9 rows are a matter of time",
        {
            "memory, last fifth over second": Number(growth),
            "processor time of a chunk, last fifth over second": Number(
                seconds["last fifth"] / seconds["second fifth"]
            ),
            "million rows a second": Number(found["rows a second"] / 1e6),
            "10^9 rows, extrapolated [h]": Number(onward["hours"]),
            "of processor [h]": Number(onward["hours of processor"]),
            "and their parts [GiB]": Number(onward["GiB of parts"]),
        },
        f"{found['chunks']} chunks of {found['rows of a chunk']:,} simulated rows "
        "(`benchmarks/programs/stream_long.py`)",
        {
            "memory, last fifth over second": at_most(1.1),
            "processor time of a chunk, last fifth over second": at_most(1.2),
        },
        source=source_of(found),
        remark="10^9 rows themselves were not run; 10^8 were, above",
    )


def kill_row() -> Row:
    """Run the suite's test, which kills the program at random moments and compares bytes."""
    test = "tests/scale/test_stream.py::test_killed_at_random_moments"
    environment = os.environ | {"MASSMAP_TEST_KILLS": str(KILLS)}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    kills = re.search(r"after each kill: \[([\d, ]*)\]", done.stdout)
    survived = len(kills.group(1).split(",")) if kills and done.returncode == 0 else 0
    return Row(
        "Killed at random moments and resumed, a stream ends with the bytes of a run left alone",
        {"kills survived": Number(survived)},
        f"`MASSMAP_TEST_KILLS={KILLS} pytest {test}`",
        {"kills survived": at_least(KILLS)},
        remark="its twins are tests of the same file: a changed part or catalogue is refused",
    )


def map_rows() -> list[Row]:
    found = json.loads((RESULTS / "map_calibration.json").read_text())
    rows = []
    for what, name in (("pixel", "pixels"), ("quarter", "quarters of the map"), ("map", "whole maps")):
        right, wrong = (found["coverage"][kind][f"{what} 0.95"] for kind in ("coherent", "marginal"))
        rows.append(
            Row(
                f"Maps: the 95 % intervals of {name} hold the true mass",
                {"within 95 %": Number(right["coverage"], right["error"])},
                f"{found['fields']} simulated fields of {found['halos']:,} objects "
                "(`MASSMAP_TEST_MAPS=300 pytest tests/statistical/test_map_calibration.py`)",
                source=source_of(found),
                remark="twin: objects sampled independently, "
                f"{Number(wrong['coverage'], wrong['error']).text()} instead",
            )
        )
    return rows


def run(quick: bool) -> Section:
    rows = [*stream_rows(), *([] if quick else [kill_row()]), *map_rows()]
    gpu = sorted(RESULTS.glob("gpu-*.json"))
    if not gpu:
        rows.append(
            Row("On a GPU: errors and times", {}, "", not_run="no recorded run (`benchmarks/programs/gpu_check.py`)")
        )
    return Section(
        "recorded",
        "Scale, kills and maps",
        "What takes hours or another machine is read from `benchmarks/results`, with the commit and the machine that "
        "the file names. The test of kills is run anew. The maps' intervals are a little too wide because these fields "
        "do not update the relation: nothing was demanded of them beforehand.",
        rows,
    )
