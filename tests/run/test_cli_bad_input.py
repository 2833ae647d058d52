"""The installed command line on bad input: a clear sentence, exit code 2, no traceback, nothing overwritten.

Written from the interface alone, before there was a reader. Every case runs the program in a folder of its
own. A refusal must leave each file there, and the folder for temporary files, as they were, byte for byte.
In a catalogue with some bad rows those must stay, flagged, and the other rows keep the masses that they have
without them.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import warm_start
from hostile import field as good
from hostile.make_files import BAD_ROWS, FILES

resource = pytest.importorskip("resource", reason="file size limits need a POSIX system")

PROGRAM = Path(sys.executable).with_name("massmap-jax")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
TIMEOUT = 600  # against a program that hangs; a busy machine must not reach it

MASS_COLUMNS = ("mean", "sd", "mode", "q025", "q16", "q50", "q84", "q975")
USUAL = {"lum": "lum", "z": "z", "sigma": "sigma", "ra": "ra", "dec": "dec", "id": "name", "seed": "3"}
USUAL["sigma-kind"] = "ln"  # the column's name does not say
USUAL["relation"] = "bigmali2017"  # as it is: what is fitted to these files has tests of its own


# -- running the program -------------------------------------------------------------------------------------


@dataclass
class Outcome:
    folder: Path
    returncode: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        return (self.stdout + "\n" + self.stderr).lower()


@pytest.fixture(scope="session")
def matplotlib_cache(tmp_path_factory):
    """One font cache for all runs; made by the first that draws a figure."""
    return tmp_path_factory.mktemp("matplotlib")


def execute(folder, args, cache, *, warm=True, file_limit=None) -> Outcome:
    """Run the program in `folder`, output not to a terminal, temporary files in a folder beside it.

    warm : from a process that has imported what it needs (warm_start.py).
    """
    scratch = folder.parent / f"{folder.name}_tmp"
    scratch.mkdir(exist_ok=True)
    own = {"TMPDIR": str(scratch), "MPLCONFIGDIR": str(cache)}
    own["COLUMNS"] = "60"  # a message must not be wrapped where nobody reads it on a terminal
    if file_limit is not None:
        # A compiled function cut short must not reach the other runs.
        compiled = shutil.copytree(os.environ["JAX_COMPILATION_CACHE_DIR"], cache / "xla", ignore=of_workers)
        own["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
    if warm:
        ran = warm_start.run(args, folder, largest_file=file_limit, **own)
        return Outcome(folder, ran.returncode, ran.stdout, ran.stderr)
    ran = subprocess.run(
        [str(PROGRAM), *map(str, args)],
        cwd=folder,
        env=warm_start.environment_of_runs() | own,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
    )
    return Outcome(folder, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def of_workers(folder, names):
    """Of a cache of compiled code: what the tests' own processes compiled."""
    return [name for name in names if name == "workers"]


def snapshot(folder) -> dict[str, str]:
    """Every path below a folder, and the hash of each file's bytes."""

    def content(path):
        if path.is_dir():
            return "folder"
        return hashlib.sha256(path.read_bytes()).hexdigest() if os.access(path, os.R_OK) else "unreadable"

    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*"))}


def run_args(catalogue="good.csv", *more, out="out", map_too=False, **changes):
    """Arguments of `run`: the usual columns, changed or dropped (None), and no map or figures unless asked for."""
    options = {**USUAL, **{name.replace("_", "-"): value for name, value in changes.items()}}
    args = ["run", catalogue, "--out", out]
    for name, value in options.items():
        if value is not None:
            args += [f"--{name}", value]
    return [*args, *([] if map_too else ["--no-map", "--no-figures"]), *more]


def check_refused(outcome, before, words):
    __tracebackhide__ = True
    assert "Traceback" not in outcome.stdout + outcome.stderr, outcome.stderr[-3000:]
    assert outcome.returncode == 2, f"exit code {outcome.returncode}\n{outcome.stdout}\n{outcome.stderr}"
    error = outcome.stderr
    assert error.startswith("error: ") and error.endswith("\n") and error.count("\n") == 1, f"not one line: {error!r}"
    assert "\x1b" not in error, f"colour codes in {error!r}"
    assert not re.search(r"\b\w+(Error|Exception)\b|Errno|<class|object at 0x", error), f"Python talk: {error!r}"
    assert 25 < len(error) < 600, f"not one sentence: {error!r}"
    for pattern in words:
        assert re.search(pattern, error.lower()), f"{pattern!r} is not in {error!r}"
    assert snapshot(outcome.folder) == before
    scratch = outcome.folder.parent / f"{outcome.folder.name}_tmp"
    assert not list(scratch.iterdir()), "temporary files were left behind"


# -- what goes into a case's folder --------------------------------------------------------------------------


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def table(columns, name="bad.csv"):
    return text(name, good.csv_text(columns))


def hostile(name, keep=None):
    """A stored hostile file, or its first `keep` bytes (its last ones dropped where negative)."""

    def put(folder):
        content = (FILES / name).read_bytes()
        target = name if keep is None else f"cut_{name}"
        (folder / target).write_bytes(content if keep is None else content[:keep])

    return put


def fits_table(columns, *, name="bad.fits", units=None):
    def put(folder):
        from astropy.io import fits

        units_of = units or {}
        made = []
        for column, values in columns.items():
            values = np.asarray(values)
            kind = f"{max(values.dtype.itemsize // 4, 1)}A" if values.dtype.kind == "U" else "D"
            made.append(fits.Column(column, kind, unit=units_of.get(column), array=values))
        fits.BinTableHDU.from_columns(made).writeto(folder / name)

    return put


def fits_image(folder):
    from astropy.io import fits

    fits.PrimaryHDU(np.zeros((4, 4), dtype=np.float32)).writeto(folder / "image.fits")


def prior_text(name="prior.txt", *, z=(0.0, 1.0, 2.0, 4.0), log10_mass=(11.0, 16.0), spoil=None):
    """Three columns z, M [Msun], density per Msun: a Schechter function, spoiled if asked."""
    mass = np.logspace(*log10_mass, 40)
    density = mass**-2.0 * np.exp(-mass / 1e15)
    lines = [[f"{a:g}", f"{m:.8e}", f"{d:.8e}"] for a in z for m, d in zip(mass, density, strict=True)]
    if spoil:
        lines[spoil[0]][spoil[1]] = spoil[2]
    return text(name, "\n".join(" ".join(line) for line in lines) + "\n")


def relation_csv(name="relation.csv", *, num=6, drop=(), **spoil):
    """Draws of a relation as CSV; `scatter=(2, "-0.15")` spoils one value."""
    columns = {
        "alpha1": [f"{10.709 + 0.01 * i:.3f}" for i in range(num)],
        "alpha2": [f"{0.359 + 0.001 * i:.3f}" for i in range(num)],
        "alpha3": ["2.35e14"] * num,
        "alpha4": ["1.1"] * num,
        "scatter": ["0.155"] * num,
    }
    for column, (row, value) in spoil.items():
        columns[column][row] = value
    return text(name, good.csv_text({c: v for c, v in columns.items() if c not in drop}))


def folder_of(name, **files):
    def put(folder):
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file.replace("_dot_", ".")).write_text(content)

    return put


def read_only(folder):
    (folder / "locked").mkdir(mode=0o555)


def secret(folder):
    (folder / "secret.csv").write_text(good.csv_text())
    (folder / "secret.csv").chmod(0)


def every(column, value):
    """The good field with one column spoiled in every row."""
    return table(good.changed(**{column: [value] * good.NUM}))


# -- refusals ------------------------------------------------------------------------------------------------


@dataclass
class Refused:
    name: str
    args: list
    words: tuple[str, ...]
    prepare: tuple[Callable, ...] = ()
    not_root: bool = False


NO_FILE = "no such|not found|does not exist|no file|cannot find"
NO_ROWS = r"no rows|0 rows|empty|no data"
DAMAGED = "truncated|incomplete|damaged|corrupt|cut|cannot be read|cannot read|could not|not a"
ALL = r"\ball\b|\bno usable|\bno row|\bnone of|\bevery\b|\bno object"

BAD = "bad.csv"

FILE_CASES = [
    Refused("missing file", run_args("nowhere.csv"), (r"nowhere\.csv", NO_FILE)),
    Refused(
        "a folder as catalogue",
        run_args("things"),
        ("things", "directory|folder|not a file"),
        (folder_of("things"),),
    ),
    Refused(
        "unreadable file",
        run_args("secret.csv"),
        (r"secret\.csv", "permission|read"),
        (secret,),
        not_root=True,
    ),
    Refused("zero bytes", run_args("zero_bytes.csv"), (r"zero_bytes\.csv", NO_ROWS), (hostile("zero_bytes.csv"),)),
    Refused("header and no rows", run_args(BAD), (NO_ROWS,), (text(BAD, "name,ra,dec,z,lum,sigma\n"),)),
    Refused(
        "FITS table of 0 rows",
        run_args("bad.fits"),
        (NO_ROWS,),
        (fits_table({c: np.asarray(v)[:0] for c, v in good.COLUMNS.items()}),),
    ),
    Refused("FITS image without a table", run_args("image.fits"), (r"image\.fits", "table"), (fits_image,)),
    Refused("PNG called .csv", run_args("png_renamed.csv"), (r"png_renamed\.csv",), (hostile("png_renamed.csv"),)),
    Refused(
        "git-lfs pointer called .fits",
        run_args("lfs_pointer.fits"),
        (r"lfs_pointer\.fits",),
        (hostile("lfs_pointer.fits"),),
    ),
    Refused(
        "FITS cut in its table",
        run_args("cut_masked_bigendian.fits", lum="LUM", z="Z", sigma="SIGMA", ra="RA", dec="DEC", id="NAME"),
        (r"cut_masked_bigendian\.fits", DAMAGED),
        (hostile("masked_bigendian.fits", keep=2880 * 2 + 640),),
    ),
    Refused(
        "Parquet without its footer",
        run_args("cut_nested_nulls.parquet", id="source_id"),
        (r"cut_nested_nulls\.parquet", DAMAGED),
        (hostile("nested_nulls.parquet", keep=-200),),
    ),
    Refused(
        "a value too many in one line",
        run_args("comma_in_name.csv"),
        (r"\brow 6\b|\bline 8\b",),
        (hostile("comma_in_name.csv"),),
    ),
    Refused(
        "two columns of one name",
        run_args("repeated_column.csv"),
        (r"'z'", "twice|two|more than one|duplicate|repeated"),
        (hostile("repeated_column.csv"),),
    ),
    Refused(
        "no header, and no names given",
        run_args(BAD),
        ("no column|header", "--names|names="),
        (text(BAD, "\n".join(",".join(row) for row in good.rows()) + "\n"),),
    ),
    Refused(
        "four names for six columns",
        run_args("bad.txt", names="name,ra,z,lum", dec=None, sigma="0.05"),
        ("names", r"\b4\b|four", r"\b6\b|six"),
        (text("bad.txt", "\n".join(" ".join(row) for row in good.rows()) + "\n"),),
    ),
]

COLUMN_CASES = [
    Refused("wrong column", run_args(lum="lumm"), ("'lumm'", "did you mean", r"'lum'", r"good\.csv")),
    Refused(
        "wrong column in FITS",
        run_args("bad.fits", z="redshfit"),
        ("'redshfit'", "did you mean", "'redshift'"),
        (fits_table({("redshift" if c == "z" else c): v for c, v in good.COLUMNS.items()}),),
    ),
    Refused(
        "two redshift columns, none named",
        run_args(BAD, z=None),
        ("z_spec", "z_phot", "--z"),
        (table({("z_spec" if c == "z" else c): v for c, v in good.COLUMNS.items()} | {"z_phot": good.REDSHIFT}),),
    ),
    Refused(
        "text column",
        run_args(BAD, lum="kind"),
        ("'kind'", "galaxy", r"\brow 0\b"),
        (table(good.changed(kind=["galaxy"] * 20)),),
    ),
    Refused(
        "one word among numbers",
        run_args(BAD),
        ("'z'", "see note 4", r"\brow 7\b"),
        (table(good.with_value("z", 7, "see note 4")),),
    ),
    Refused(
        "list column as luminosity",
        run_args("nested_nulls.parquet", id="source_id", lum="spectrum"),
        ("'spectrum'", "list|array|vector|nested|one number|single number|not a number"),
        (hostile("nested_nulls.parquet"),),
    ),
    Refused(
        "vector column as luminosity",
        run_args("masked_bigendian.fits", lum="MAG_APER", z="Z", sigma="SIGMA", ra="RA", dec="DEC", id="NAME"),
        ("'mag_aper'", "list|array|vector|nested|one number|single number|dimension|shape"),
        (hostile("masked_bigendian.fits"),),
    ),
    Refused(
        "duplicate ids",
        run_args(BAD),
        ("duplicate|twice|more than once|repeated|not unique", good.IDS[2], "row_number"),
        (table(good.with_value("name", 9, str(good.IDS[2]))),),
    ),
]

IDENTITY = {"relation": "identity", "lum": "mass", "pivot": "1e14"}
MASS = {**{c: v for c, v in good.COLUMNS.items() if c != "lum"}, "mass": good.LUM * 1e10}

ROW_CASES = [
    Refused("every luminosity NaN", run_args(BAD), (ALL, r"\b20\b", "lum"), (every("lum", "nan"),)),
    Refused("every redshift -99", run_args(BAD), (ALL, r"\b20\b", "redshift|'z'"), (every("z", "-99"),)),
    Refused("every luminosity negative", run_args(BAD), (ALL, r"\b20\b", "lum"), (every("lum", "-3.5"),)),
    Refused("every sigma negative", run_args(BAD), (ALL, r"\b20\b", "sigma|error"), (every("sigma", "-0.1"),)),
    Refused(
        "every signal to noise below 3",
        run_args(BAD, sigma_kind="linear"),
        ("signal|s/n|snr", "min-snr|min_snr", r"\b3\b"),
        (table(good.changed(sigma=good.LUM)),),
    ),
    Refused("negative constant sigma", run_args(sigma="-0.1"), ("sigma", r"-0\.1")),
    Refused("no width at all", run_args(BAD, **{**IDENTITY, "sigma": "0"}), ("sigma", "scatter"), (table(MASS),)),
]

UNIT_CASES = [
    Refused(
        "column unit Msun/h",
        run_args("bad.fits", **IDENTITY),
        ("'mass'", "(msun|solmass|m_sun) ?/ ?h", r"lum.unit|lum.scale|--h\b|little h|divide|convert"),
        (fits_table(MASS, units={"mass": "Msun/h"}),),
    ),
    Refused(
        "column name says Msun/h",
        run_args(BAD, **{**IDENTITY, "lum": "mass_msun_h"}),
        ("'mass_msun_h'", "/ ?h", "lum.unit|lum.scale"),
        (table({("mass_msun_h" if c == "mass" else c): v for c, v in MASS.items()}),),
    ),
    Refused(
        "log10 given as linear",
        run_args(BAD, lum="log_lum"),
        ("'log_lum'", "log10", "lum.log"),
        (table({**good.COLUMNS, "log_lum": np.round(np.log10(good.LUM), 4)}),),
    ),
    Refused(
        "magnitudes, by their unit",
        run_args("magnitudes.ecsv", lum="r_total", ra=None, dec=None, sigma="0.05"),
        ("'r_total'", r"\bmag"),
        (hostile("magnitudes.ecsv"),),
    ),
    Refused(
        # Without a unit only the name, or the masses that come out, can tell.
        "magnitudes, by their name",
        run_args(BAD, lum="mag_i"),
        (r"mag_i|magnitude|mass range|prior",),
        (table({**good.COLUMNS, "mag_i": np.round(30 - 2.5 * np.log10(good.LUM), 2)}),),
    ),
    Refused("linear given as log10", run_args(lum_log="log10"), ("'lum'|luminosity", "log")),
]

POSITION_CASES = [
    Refused(
        "ra and dec swapped",
        run_args(ra="dec", dec="ra", map_too=True),
        ("dec", "swap", "name"),
    ),
    Refused(
        "offsets in arcmin as degrees",
        run_args(BAD, map_too=True),
        ("dec", "arcmin", "position.unit"),
        (
            table(
                good.changed(
                    ra=np.linspace(-300, 300, 20),
                    dec=np.linspace(-290, 310, 20) * (1 - 2 * (np.arange(20) % 2)),
                )
            ),
        ),
    ),
    Refused(
        "field centre of one number",
        run_args(map_too=True, position_unit="arcmin", field_centre="150"),
        ("field.centre", "150"),
    ),
]

RELATION_CASES = [
    Refused(
        "negative scatter",
        run_args(relation="relation.csv"),
        ("scatter", r"-0\.15", r"(row|draw) 2\b"),
        (relation_csv(scatter=(2, "-0.15")),),
    ),
    Refused(
        "NaN draw",
        run_args(relation="relation.csv"),
        ("alpha2", r"\bnan\b", r"(row|draw) 4\b"),
        (relation_csv(alpha2=(4, "nan")),),
    ),
    Refused(
        "no scatter column",
        run_args(relation="relation.csv"),
        ("scatter", r"relation\.csv"),
        (relation_csv(drop=("scatter",)),),
    ),
    Refused(
        "no draws",
        run_args(relation="relation.csv"),
        (r"relation\.csv", NO_ROWS + "|no draws"),
        (relation_csv(num=0),),
    ),
    Refused("missing relation file", run_args(relation="draws.npz"), (r"draws\.npz", NO_FILE)),
    Refused("unknown relation", run_args(relation="reddick13"), ("reddick13", "bigmali2017")),
    Refused("no relation draws", run_args(num_relation_draws="0"), ("num.relation.draws", r"\b0\b")),
    Refused("unknown relation-from", run_args(relation_from="heaven"), ("heaven", "fixed_draws")),
    Refused("negative pivot", run_args(relation="identity", pivot="-1e14"), ("pivot", r"-1e\+?14|-1")),
]

PRIOR_CASES = [
    Refused(
        "prior ends below the catalogue",
        run_args(prior="prior.txt"),
        ("prior", "redshift|'z'", r"0\.05"),
        (prior_text(z=(0.0, 0.02, 0.05)),),
    ),
    Refused(
        "prior masses end below the catalogue",
        run_args(prior="prior.txt"),
        ("prior", "mass", "range|table|edge|reach|grid"),
        (prior_text(log10_mass=(8.0, 10.0)),),
    ),
    Refused(
        "negative density",
        run_args(prior="prior.txt"),
        ("prior", "density", r"-3\.5|negative"),
        (prior_text(spoil=(50, 2, "-3.5e-28")),),
    ),
    Refused("missing prior file", run_args(prior="table.npz"), (r"table\.npz", NO_FILE)),
    Refused("unknown prior", run_args(prior="tinker08"), ("tinker08", "default", "hmf")),
    Refused(
        "Msun/h without h",
        run_args(prior="prior.txt", prior_mass_unit="Msun/h"),
        ("msun/h", r"\bh\b"),
        (prior_text(),),
    ),
    Refused("unknown cosmology", run_args(prior="hmf", cosmology="Planck81"), ("planck81", "planck18")),
    Refused("unknown mass function", run_args(prior="hmf", hmf_model="Tinker11"), ("tinker11", "tinker10")),
]

OPTION_CASES = [
    Refused("unknown method", run_args(method="magic"), ("magic", "analytic", "method")),
    Refused("unknown format", run_args(format="xlsx"), ("xlsx", "parquet")),
    Refused(
        "pixels of negative size",
        run_args(map_too=True, pixel_arcmin="-1"),
        ("pixel.arcmin|pixel size", "-1"),
    ),
    Refused("pixels of size NaN", run_args(map_too=True, pixel_arcmin="nan"), ("pixel.arcmin|pixel size", "nan")),
    Refused(
        "absurdly small pixels",
        run_args(map_too=True, pixel_arcmin="1e-7"),
        ("pixel", r"\d{4}|\de\+?\d|million|billion"),
    ),
    Refused("no map draws", run_args(map_too=True, num_map_draws="0"), ("num.map.draws", r"\b0\b")),
    Refused("negative map draws", run_args(map_too=True, num_map_draws="-3"), ("num.map.draws", "-3")),
    Refused("seed with a point", run_args(seed="1.5"), ("seed", r"1\.5")),
    Refused("seed beyond 64 bits", run_args(seed=str(2**70)), ("seed",)),
    Refused("unknown option", run_args(redshift_column="z"), ("--redshift-column",)),
    Refused("no --out", ["run", "good.csv", "--lum", "lum"], ("--out",)),
    Refused("no such command", ["masses", "good.csv"], (r"\bmasses\b", r"\brun\b|command")),
    Refused("info on a missing file", ["info", "nowhere.fits"], (r"nowhere\.fits", NO_FILE)),
    Refused("info on a PNG", ["info", "png_renamed.csv"], (r"png_renamed\.csv",), (hostile("png_renamed.csv"),)),
    Refused(
        "simulate over a file",
        ["simulate", "--out", "good.csv", "--num-halos", "50"],
        (r"good\.csv", "exist", "--overwrite"),
    ),
    Refused("simulate no halos", ["simulate", "--out", "sim.csv", "--num-halos", "0"], ("num.halos", r"\b0\b")),
]

NOTES = folder_of("out", notes_dot_txt="six months of work\n", masses_dot_parquet="not yours\n")

OUTPUT_CASES = [
    Refused("output exists", run_args(), (r"\bout\b", "exist", "--overwrite"), (NOTES,)),
    Refused(
        "output is a file",
        run_args("good.csv", out="notes.txt"),
        (r"notes\.txt", "exist|file"),
        (text("notes.txt", "mine\n"),),
    ),
    Refused(
        "output below a file",
        run_args(out="notes.txt/out"),
        (r"notes\.txt", "directory|folder|file|written|write|create"),
        (text("notes.txt", "mine\n"),),
    ),
    Refused(
        "output in /proc",
        run_args(out="/proc/massmap_out"),
        ("/proc", "write|written|create|made|permission"),
    ),
    Refused(
        "output below a folder without write permission",
        run_args(out="locked/out"),
        ("locked", "permission|write|written|create"),
        (read_only,),
        not_root=True,
    ),
    Refused(
        "overwrite of a folder that is not an output",
        run_args("good.csv", "--overwrite"),
        (r"\bout\b", "overwrit|replace", r"run\.json|output of|earlier|previous"),
        (NOTES,),
    ),
    Refused(
        "overwrite of another program's output",
        run_args("good.csv", "--overwrite"),
        (r"\bout\b", "overwrit|replace"),
        (folder_of("out", run_dot_json='{"program": "another", "loss": [3, 2, 1]}\n', model_dot_bin="weights\n"),),
    ),
    Refused(
        "overwrite of the folder one stands in",
        run_args("good.csv", "--overwrite", out="."),
        ("overwrit|replace",),
    ),
]

KINDS = (
    *(FILE_CASES, COLUMN_CASES, ROW_CASES, UNIT_CASES, POSITION_CASES, RELATION_CASES, PRIOR_CASES, OPTION_CASES),
    OUTPUT_CASES,
)
REFUSED = [case for cases in KINDS for case in cases]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "work"
    place.mkdir()
    (place / "good.csv").write_text(good.csv_text())
    return place


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case, folder, matplotlib_cache):
    if case.not_root and ROOT:
        pytest.skip("permissions do not hold back root")
    for put in case.prepare:
        put(folder)
    before = snapshot(folder)
    # The first of each kind starts from nothing.
    warm = all(case is not cases[0] for cases in KINDS)
    check_refused(execute(folder, case.args, matplotlib_cache, warm=warm), before, case.words)


QUICK = ("unknown method", "wrong column", "every redshift -99", "output exists", "unknown relation", "unknown prior")
QUICK += ("missing relation file", "unknown relation-from", "negative pivot", "FITS image without a table")


@pytest.mark.parametrize("name", QUICK)
def test_a_refusal_does_not_wait_for_jax(name, folder):
    """Options and catalogue are looked at before the packages that take seconds to import."""
    (case,) = (case for case in REFUSED if case.name == name)
    for put in case.prepare:
        put(folder)
    command = [sys.executable, "-X", "importtime", str(PROGRAM), *map(str, case.args)]
    ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ran.returncode == 2 and "\nerror: " in ran.stderr, ran.stderr[-3000:]
    imported = {line.rsplit("|", 1)[-1].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "massmap_jax.run.options" in imported
    assert not imported & {"jax", "equinox", "numpyro", "matplotlib", "scipy", "hmf", "massmap_jax.run.job"}


def test_there_are_enough_cases():
    assert len(REFUSED) >= 55
    assert len({case.name for case in REFUSED}) == len(REFUSED)


# -- a good run, and what others are compared with -----------------------------------------------------------


def read_masses(directory) -> dict[str, np.ndarray]:
    """The masses table as NumPy columns, through pyarrow or astropy and nothing of ours."""
    # Beside a CSV file lies one with its units.
    (path,) = [path for path in directory.glob("masses.*") if path.suffix != ".json"]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        read = pq.read_table(path)
        return {name: np.asarray(read[name].to_pylist()) for name in read.column_names}
    from astropy.table import Table

    read = Table.read(path, **({"format": "ascii.csv", "comment": "#"} if path.suffix == ".csv" else {}))
    columns = {}
    for name in read.colnames:
        column = read[name]
        if column.dtype.kind in "SUO":
            columns[name] = np.array([str(v) for v in np.ma.filled(np.ma.asarray(column.astype(str)), "")])
        else:
            filled = column.filled(np.nan) if column.dtype.kind == "f" and hasattr(column, "filled") else column
            columns[name] = np.asarray(filled)
    return columns


def check_files(directory, *, map_too):
    names = {path.name for path in directory.iterdir()}
    assert "run.json" in names and sum(n.startswith("masses.") and not n.endswith(".json") for n in names) == 1
    assert ("mass_map.fits" in names) == map_too
    json.loads((directory / "run.json").read_text())


@dataclass
class GoodRun:
    folder: Path
    outcome: Outcome
    masses: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def good_run(tmp_path_factory, matplotlib_cache):
    """The good field with a map; --relation-from is left to the program, which must say what it took."""
    place = tmp_path_factory.mktemp("good")
    (place / "good.csv").write_text(good.csv_text())
    outcome = execute(place, run_args(map_too=True, pixel_arcmin="2"), matplotlib_cache, warm=False)
    assert outcome.returncode == 0, outcome.stderr
    check_files(place / "out", map_too=True)
    return GoodRun(place, outcome, read_masses(place / "out"))


def check_masses(masses, reference, *, ids=good.IDS, like=None, bad=None, marked=None):
    """Compare a masses table with the good run's.

    `ids` in the order expected; `like[i]` the row of the good field that row i must agree with (None: any
    finite mass); `bad[i]` what the reason must mention where row i can have no mass; `marked[i]` where it has
    one and a flag.
    """
    bad, marked = bad or {}, marked or {}
    like = list(range(len(ids))) if like is None else like
    assert [str(i) for i in masses["id"]] == [str(i) for i in ids]
    is_bad = np.isin(np.arange(len(ids)), list(bad))
    rows = [i for i in range(len(ids)) if i not in bad and like[i] is not None]
    for name in MASS_COLUMNS:
        column = np.asarray(masses[f"log10_mass_{name}"], dtype=float)
        np.testing.assert_array_equal(np.isnan(column), is_bad, err_msg=name)
        expected = np.asarray(reference[f"log10_mass_{name}"], dtype=float)[[like[i] for i in rows]]
        np.testing.assert_allclose(column[rows], expected, rtol=1e-6, err_msg=name)
    flag = np.asarray(masses["flag"])
    for i, reason in (bad | marked).items():
        assert flag[i] != 0, f"row {i} is not flagged"
        assert re.search(reason, masses["flag_reason"][i].lower()), (i, masses["flag_reason"][i])
    for i in rows:
        if i not in marked:
            assert flag[i] == reference["flag"][like[i]], f"row {i}: {masses['flag_reason'][i]}"


def check_done(outcome, *, map_too=False):
    assert "Traceback" not in outcome.stdout + outcome.stderr, outcome.stderr[-3000:]
    assert outcome.returncode == 0, outcome.stderr
    check_files(outcome.folder / "out", map_too=map_too)
    assert not [p.name for p in outcome.folder.iterdir() if "tmp" in p.name or p.name.startswith(".")]


def test_good_field(good_run):
    masses = good_run.masses
    check_masses(masses, masses)
    q025, q16, q50, q84, q975 = (masses[f"log10_mass_{q}"] for q in ("q025", "q16", "q50", "q84", "q975"))
    assert (q025 > 10).all() and (q025 < q16).all() and (q16 < q50).all()
    assert (q50 < q84).all() and (q84 < q975).all() and (q975 < 16.5).all()
    assert (np.asarray(masses["flag"]) == 0).all() and not any(masses["flag_reason"])
    assert re.search("fixed.draws", good_run.outcome.said), "the default of --relation-from is not said"


def test_bad_rows_among_good_ones(folder, good_run, matplotlib_cache):
    """Each bad value once, between good rows: kept, flagged, counted; nobody else's mass changes."""
    nasty = [
        *(("lum", v, "lum") for v in ("nan", "inf", "-99", "0", "-5.5", "", "1e400")),
        *(("z", v, "z|redshift") for v in ("nan", "-99", "99", "-1", "-0.25", "inf")),
        ("z", "50", "prior"),
        *(("sigma", v, "sigma|error|noise") for v in ("-0.1", "nan", "-99")),
        ("dec", "95", "position|dec"),
        ("ra", "nan", "position|ra"),
        ("sigma", "0", "sigma|error|noise"),
    ]
    columns = list(good.COLUMNS)
    lines, ids, like, bad, marked = [], [], [], {}, {}
    for i, row in enumerate(good.rows()):
        lines.append(row)
        ids.append(row[0])
        like.append(i)
        column, value, reason = nasty[i]
        (marked if column in ("ra", "dec") else bad)[len(ids)] = reason
        spoiled = [*row]
        spoiled[columns.index(column)] = value
        spoiled[0] = f"bad-{i:03d}"
        lines.append(spoiled)
        ids.append(spoiled[0])
        like.append(i if column in ("ra", "dec") else None)
    (folder / "mixed.csv").write_text("\n".join([",".join(columns), *map(",".join, lines)]) + "\n")
    assert (len(bad), len(marked)) == (18, 2)

    outcome = execute(folder, run_args("mixed.csv", map_too=True, pixel_arcmin="2"), matplotlib_cache)
    check_done(outcome, map_too=True)
    check_masses(read_masses(folder / "out"), good_run.masses, ids=ids, like=like, bad=bad, marked=marked)
    assert re.search(r"\b(18|20)\b", outcome.stdout), f"the bad rows are not counted in\n{outcome.stdout}"

    from astropy.io import fits

    with fits.open(folder / "out" / "mass_map.fits") as hdus:
        assert np.isfinite(hdus["MEAN"].data).all()
        # An object without mass or place counts nowhere.
        assert hdus["NOBJ"].data.sum() == 20


READABLE = {
    "masked_bigendian.fits": (
        good.IDS,
        {"lum": "LUM", "z": "Z", "sigma": "SIGMA", "ra": "RA", "dec": "DEC", "id": "NAME", "format": "fits"},
    ),
    "topcat_masked.ecsv": (good.IDS, {"format": "ecsv"}),
    "nested_nulls.parquet": (good.INTEGER_IDS, {"id": "source_id"}),
    "iraf_indef.txt": (good.IDS, {}),
    "sextractor.cat": (good.IDS, {"names": "name,ra,dec,z,lum,sigma", "format": "csv"}),
    "excel_bom_crlf.csv": (good.IDS, {}),
}


@pytest.mark.parametrize("name", READABLE)
def test_readable_hostile_file(name, folder, good_run, matplotlib_cache):
    """Masked, big-endian, integer, float32, nested, sentinel: the good rows' masses and the others' flags."""
    ids, options = READABLE[name]
    hostile(name)(folder)
    outcome = execute(folder, run_args(name, **options), matplotlib_cache)
    check_done(outcome)
    check_masses(read_masses(folder / "out"), good_run.masses, ids=ids, bad=BAD_ROWS.get(name))


# A reader may read these or refuse them; it may not take them for something else.
READ_OR_REFUSE = {
    "vo_units_row.csv": (r"\brow 0\b|\bline 2\b|unit", r"lsun|deg"),
    "semicolon_decimal_comma.csv": (r"semicolon|delimiter|separator|';'|decimal comma|0,09375",),
    "latin1.csv": (r"latin1\.csv", "utf-?8|encod|latin"),
    "utf16.csv": (r"utf16\.csv",),
}


@pytest.mark.parametrize("name", READ_OR_REFUSE)
def test_read_well_or_refused(name, folder, good_run, matplotlib_cache):
    hostile(name)(folder)
    before = snapshot(folder)
    outcome = execute(folder, run_args(name), matplotlib_cache)
    if outcome.returncode != 0:
        check_refused(outcome, before, READ_OR_REFUSE[name])
        return
    check_done(outcome)
    ids = [f"Bök-{i:02d}é" for i in range(good.NUM)] if name == "latin1.csv" else good.IDS
    check_masses(read_masses(folder / "out"), good_run.masses, ids=ids)


def test_ra_in_hours_is_remarked_on(folder, matplotlib_cache):
    columns = good.changed(ra=np.linspace(0.3, 23.6, 20), dec=np.linspace(-65, 70, 20))
    table(columns, "hours.csv")(folder)
    outcome = execute(folder, run_args("hours.csv"), matplotlib_cache)
    check_done(outcome)
    assert "hour" in outcome.said


def test_hour_angle_and_row_numbers(folder, good_run, matplotlib_cache):
    """RA declared in hours comes out in degrees; repeated ids pass where the user asks for row numbers."""
    columns = good.changed(ra=good.RA / 15)
    columns["name"] = ["same"] * good.NUM
    table(columns, "repeated.csv")(folder)
    args = run_args("repeated.csv", position_unit="hourangle", duplicate_ids="row_number")
    outcome = execute(folder, args, matplotlib_cache)
    check_done(outcome)
    masses = read_masses(folder / "out")
    np.testing.assert_allclose(masses["ra"], good.RA, rtol=1e-9)
    np.testing.assert_allclose(masses["log10_mass_mean"], good_run.masses["log10_mass_mean"], rtol=1e-6)


def test_one_row_replaces_an_earlier_output(folder, good_run, matplotlib_cache):
    shutil.copytree(good_run.folder / "out", folder / "out")
    (folder / "one.csv").write_text(good.csv_text({c: v[:1] for c, v in good.COLUMNS.items()}))
    outcome = execute(folder, run_args("one.csv", "--overwrite", map_too=True), matplotlib_cache)
    check_done(outcome, map_too=True)
    check_masses(read_masses(folder / "out"), good_run.masses, ids=good.IDS[:1])

    from astropy.io import fits

    with fits.open(folder / "out" / "mass_map.fits") as hdus:
        assert hdus["NOBJ"].data.sum() == 1 and np.isfinite(hdus["MEAN"].data).all()


# -- refusals that must leave an earlier output alone --------------------------------------------------------


def test_failed_overwrite_keeps_the_earlier_output(folder, good_run, matplotlib_cache):
    shutil.copytree(good_run.folder / "out", folder / "out")
    every("lum", "-99")(folder)
    before = snapshot(folder)
    outcome = execute(folder, run_args(BAD, "--overwrite"), matplotlib_cache)
    check_refused(outcome, before, (ALL,))


def test_overwrite_never_deletes_its_own_catalogue(folder, good_run, matplotlib_cache):
    """A catalogue kept in the output folder: replacing the folder whole would delete the input."""
    shutil.copytree(good_run.folder / "out", folder / "out")
    shutil.move(folder / "good.csv", folder / "out" / "good.csv")
    before = snapshot(folder)
    outcome = execute(folder, run_args("out/good.csv", "--overwrite"), matplotlib_cache)
    check_refused(outcome, before, (r"good\.csv|catalogue",))


@pytest.mark.parametrize(
    ("limit", "overwrite", "pixel"),
    # The pixels of the good run, whose map is compiled; smaller ones where the map is to be the file that is too large.
    [(1024, False, "2"), (1024, True, "2"), (40_000, False, "1")],
    ids=["first file", "first file, over an earlier output", "at the map"],
)
def test_full_disk(limit, overwrite, pixel, folder, good_run, tmp_path, matplotlib_cache):
    """No file may grow beyond a limit: nothing half-written stays, and an earlier output is as it was."""
    if overwrite:
        shutil.copytree(good_run.folder / "out", folder / "out")
    cache = tmp_path / "cache"
    shutil.copytree(matplotlib_cache, cache)  # a cache cut by the limit would spoil later runs
    before = snapshot(folder)
    more = ["--no-figures", *(["--overwrite"] if overwrite else [])]
    args = run_args("good.csv", *more, map_too=True, pixel_arcmin=pixel)
    outcome = execute(folder, args, cache, file_limit=limit)
    check_refused(outcome, before, (r"\bout\b", "writ|space|too large|disk"))
