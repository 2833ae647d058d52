"""Options in a file: what is read as what, what is refused, and a run that its own run.json repeats."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import typer
import warm_start

from massmap_jax.cli import SETTINGS, app
from massmap_jax.errors import MassmapError
from massmap_jax.run.config import COMMAND_LINE_ONLY, read_config, template
from massmap_jax.run.inputs import check_unchanged, inputs_of


def read(tmp_path, text, command="run", name="run.yaml"):
    (tmp_path / name).write_text(text)
    return read_config(str(tmp_path / name), command, SETTINGS[command])


def refused(tmp_path, text, command="run", name="run.yaml"):
    with pytest.raises(MassmapError) as error:
        read(tmp_path, text, command, name)
    return str(error.value)


# -- what a file holds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "fit", "hosts", "stream"])
def test_the_written_file_gives_the_defaults(command, tmp_path):
    """As it is written it gives nothing; with every default set in it, the defaults, of their own types."""
    text = template(command, SETTINGS[command])
    assert read(tmp_path, text, command).values == {}
    set_now = [line[1:] for line in text.splitlines() if line.startswith("#") and not line.startswith("# ")]
    names = [line.partition(":")[0] for line in set_now]
    assert sorted(names) == sorted(s.name for s in SETTINGS[command] if s.name not in COMMAND_LINE_ONLY)
    values = read(tmp_path, "\n".join(line for line in set_now if not line.endswith(":")), command).values
    expected = {s.name: s.default for s in SETTINGS[command] if s.default is not None and s.name in names}
    assert values == expected
    assert {n: type(v) for n, v in values.items()} == {n: type(v) for n, v in expected.items()}
    for setting in SETTINGS[command]:
        assert setting.name in COMMAND_LINE_ONLY or setting.help.split()[0] in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("lum_scale: 1e14", 1e14),  # text for YAML
        ("lum_scale: 1.0e+14", 1e14),
        ("lum-scale: 1e14", 1e14),
        ("--lum-scale: 1e14", 1e14),
        ("header: no", "no"),  # false for YAML
        ("header: 'yes'", "yes"),
        ("no_map: yes", True),
        ("no_map: off", False),
        ("no_map: True", True),
        ("sigma: 0.05", "0.05"),
        ("id: 007", "007"),  # 7 for YAML
        ("truth: on", "on"),
        ("relation_scatter: 1:30", "1:30"),  # 90 for YAML, in base 60
        ("relation_prior: alpha1=0:5,alpha2=1:0.5", "alpha1=0:5,alpha2=1:0.5"),
        ("map_slices: [0.1, 0.3]", "0.1,0.3"),
        ("names: [z, lum_obs]", "z,lum_obs"),
        ("names:\n  - z\n  - lum_obs", "z,lum_obs"),
        ("seed: 12", 12),
        ("delimiter: '|'", "|"),
        ("delimiter: '~'", "~"),  # null without quotes
        ("delimiter: ~", None),
        ("lum: null", None),
    ],
)
def test_values_are_the_text_that_stands_there(line, value, tmp_path):
    found = read(tmp_path, line + "\n").values
    assert list(found.values()) == ([] if value is None else [value])


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_gives_nothing(text, tmp_path):
    assert read(tmp_path, text).values == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lum_scal: 1e14", ("line 1", "'lum_scal' is no option of run", "the nearest is lum_scale")),
        ("quux: 1", ("line 1", "'quux' is no option", "massmap-jax config run lists all")),
        ("seed: 1\nchunk_rows: 10", ("line 2", "'chunk_rows' is no option of run")),
        ("lum: L\n\nseed: 1\nlum: M", ("line 4", "lum is given a second time", "line 1")),
        ("lum: L\nmin_snr: high", ("line 2", "min_snr is 'high'", "a number is needed")),
        ("min_snr: [1, 2]", ("min_snr is a list", "one value")),
        ("seed: 1.5", ("seed is '1.5'", "a whole number")),
        ("no_map: 1", ("no_map is '1'", "true or false")),
        ("lum: {a: b}", ("line 1: lum holds options of its own",)),
        ("names: []", ("names holds a list that is empty",)),
        ("names: [[a], b]", ("names holds a list that is empty or not of plain values",)),
        ("lum:", ("line 1: lum has no value",)),
        ("id: #5", ("id has no value", "quotes")),
        ("lum: ''", ("lum has no value",)),
        ("overwrite: true", ("overwrite is given on the command line only",)),
        ("config: other.yaml", ("config is given on the command line only",)),
        ("lum: L\n  z: 3", ("line 2 is not YAML",)),
        ("lum: 'L", ("is not YAML",)),
        ("lum:\tL\n\tz: 3", ("is not YAML",)),
        ("just text", ("holds no options", "NAME: VALUE")),
        ("- lum\n- z", ("holds no options",)),
        ("{[a]: b}", ("does not begin with the name of an option",)),
        ("lum: \x01", ("is not YAML",)),
        ("[" * 3000, ("is not YAML",)),
        ("lum: L\n---\nlum: M", ("is not YAML",)),
        ("lum: *nowhere", ("is not YAML",)),
    ],
)
def test_what_is_refused(text, words, tmp_path):
    error = refused(tmp_path, text)
    assert error.startswith(str(tmp_path / "run.yaml"))
    assert not [word for word in words if word not in error], error


def test_toml_is_read_alike(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('lum = "L500"\nmin-snr = 4.5\nno-map = true\nnames = ["a", "z"]\nseed = 7\n')
    asked = {"lum": "L500", "min_snr": 4.5, "names": "a,z", "seed": 7}
    found = read_config(str(path), "run", SETTINGS["run"]).values
    assert {name: found[name] for name in asked} == asked
    assert found == read(tmp_path, "lum: L500\nmin_snr: 4.5\nno_map: true\nnames: [a, z]\nseed: 7").values
    for text, words in (("lum = ", "is not TOML"), ("[run]\nlum = 1", "run"), ("quux = 1", "no option of run")):
        path.write_text(text)
        with pytest.raises(MassmapError, match=words) as error:
            read_config(str(path), "run", SETTINGS["run"])
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_nothing_is_constructed(tmp_path):
    found = read(tmp_path, f"lum: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n").values
    assert not (tmp_path / "made").exists() and found == {"lum": f"{tmp_path}/made"}


def test_files_that_are_none(tmp_path):
    def message(path):
        with pytest.raises(MassmapError) as error:
            read_config(str(path), "run", SETTINGS["run"])
        return str(error.value)

    assert "does not exist" in message(tmp_path / "no.yaml")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert f"give {tmp_path / 'run.json'}" in message(tmp_path)
    (tmp_path / "table.npz").write_bytes(b"\xff\xfe\x00\x81")
    assert "is not a text file" in message(tmp_path / "table.npz")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(11_000_000)
    assert "11 MB" in message(tmp_path / "large")


# -- run.json ----------------------------------------------------------------------------------------------------------


def record(**changes):
    known = {"program": "massmap-jax", "version": "0.1", "command": "run", "versions": {"jax": "0.0.1"}}
    return known | {"config": {"lum": "L", "lum_scale": 1e14, "no_map": True, "z": None, "seed": 3}} | changes


def test_a_record_gives_its_options(tmp_path):
    found = read(tmp_path, json.dumps(record(inputs={"catalogue": {"path": "a", "sha256": "b"}})), name="run.json")
    assert found.values == {"lum": "L", "lum_scale": 1e14, "no_map": True, "seed": 3}
    assert found.inputs == {"catalogue": {"path": "a", "sha256": "b"}}
    (note,) = found.notes
    assert "jax 0.0.1" in note and "last digits" in note


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": "fit"}, ("the record of massmap-jax fit", "give it to massmap-jax fit")),
        ({"command": "demo", "config": None}, ("the record of massmap-jax demo", "no options to run again")),
        ({"command": None}, ("written by massmap-jax 0.1", "no options to run again")),
        ({"config": {"luminosity": "L"}}, ("'luminosity' is no option of run",)),
        ({"config": {"lum": {"a": 1}}}, ("lum holds options of its own",)),
        ({"config": {"lum": []}}, ("lum holds a list that is empty",)),
        ({"config": {"lum": ["a", None]}}, ("lum holds a list", "not of plain values")),
        ({"config": {"lum": ["a", ["b"]]}}, ("lum holds a list", "not of plain values")),
        ({"versions": ["jax"]}, ("versions or inputs were changed", "give the options anew")),
        ({"versions": {"jax": 1}}, ("versions or inputs were changed",)),
        ({"inputs": "a.fits"}, ("versions or inputs were changed",)),
        ({"inputs": {"catalogue": "a.fits"}}, ("versions or inputs were changed",)),
        ({"inputs": {"catalogue": {"path": "a", "sha256": 7}}}, ("versions or inputs were changed",)),
        ({"inputs": {"catalogue": {"path": "a", "files": ["a"]}}}, ("versions or inputs were changed",)),
        ({"inputs": {"catalogue": {"path": "a", "files": {"a": None}}}}, ("versions or inputs were changed",)),
    ],
)
def test_records_that_cannot_be_run_again(changes, words, tmp_path):
    error = refused(tmp_path, json.dumps(record(**changes)), name="run.json")
    assert not [word for word in words if word not in error], error


def test_a_changed_file_is_refused_unless_given_anew(tmp_path):
    catalogue = tmp_path / "a.fits"
    catalogue.write_text("1")
    config = {"catalogue": f"{catalogue}[1]", "relation": "bigmali2017", "prior": None}
    before = inputs_of(config)
    assert list(before) == ["catalogue"] and before["catalogue"]["path"] == str(catalogue)
    check_unchanged(before, config, [], "run.json")
    catalogue.write_text("2")
    with pytest.raises(MassmapError, match=r"a\.fits has changed since run\.json was written \(its sha256 was 6b86b27"):
        check_unchanged(before, config, [], "run.json")
    check_unchanged(before, config, ["catalogue"], "run.json")


# -- the program -------------------------------------------------------------------------------------------------------


def program(folder, *args, **more):
    return warm_start.run(args, folder, **more)


def refused_by_program(folder, *args):
    before = sorted(folder.rglob("*"))
    ran = program(folder, *args)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert sorted(folder.rglob("*")) == before
    return ran.stderr


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def record_of(folder):
    """run.json but for what a repeated run has of its own: the call, the times and the folder."""
    found = json.loads((folder / "run.json").read_text())
    own = [found.pop(name) for name in ("command_line", "date", "seconds")]
    assert all(own)
    return found, found["config"].pop("out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("config")
    rng = np.random.default_rng(5)
    number = 60
    table = {"name": [f"c{i}" for i in range(number)], "ra": rng.uniform(10, 10.5, number)}
    table |= {"dec": rng.uniform(0, 0.5, number), "z": rng.uniform(0.1, 0.6, number)}
    table |= {"mass": 10 ** rng.uniform(-0.2, 0.8, number)}
    pd.DataFrame(table).to_csv(path / "in.csv", index=False)
    (path / "run.yaml").write_text(
        "catalogue: in.csv\nout: first\nlum: mass\nsigma: 0.1\nlum_scale: 1e14\nheader: yes\nrelation: identity\n"
        "relation_scatter: 0.1:0.05\nrelation_from: fixed_draws\nnum_map_draws: 5\nno_figures: true\nformat: fits\n"
    )
    ran = program(path, "run", "--config", "run.yaml")
    assert ran.returncode == 0, ran.stderr
    return path


@pytest.mark.slow
def test_a_run_from_a_file_and_again_from_its_record(folder):
    """The second run gives the same bytes: masses, map and report; run.json but for the call and the times."""
    ran = program(folder, "run", "--config", "first/run.json", "--out", "second")
    assert ran.returncode == 0, ran.stderr
    assert "note: --out: taken from the command line, not from first/run.json" in ran.stdout
    first = bytes_of(folder / "first")
    assert {"masses.fits", "mass_map.fits", "report.html"} <= first.keys()
    assert bytes_of(folder / "second") == first
    (one, out), (two, new) = record_of(folder / "first"), record_of(folder / "second")
    assert one == two and (out, new) == ("first", "second")
    assert one["columns_read"] == {"lum": "mass", "z": "z", "ra": "ra", "dec": "dec", "id": "name"}
    assert len(one["inputs"]["catalogue"]["sha256"]) == 64
    assert one["config"]["lum_scale"] == 1e14 and one["config"]["header"] == "yes"
    whole = json.loads((folder / "second" / "run.json").read_text())
    assert whole["command_line"] == "massmap-jax run --config first/run.json --out second"
    assert whole["date"][:2] == "20"


@pytest.mark.slow
def test_the_command_line_goes_before_the_file(folder):
    (folder / "more.yaml").write_text((folder / "run.yaml").read_text() + "no_report: true\n")
    args = ("--config", "more.yaml", "--out", "seed", "--seed", "4", "--lum-scale", "2e14", "--report")
    ran = program(folder, "run", *args)
    assert ran.returncode == 0, ran.stderr
    note = "note: --out, --lum-scale, --report: taken from the command line, not from more.yaml"
    assert note in ran.stdout.splitlines()
    options = json.loads((folder / "seed" / "run.json").read_text())["config"]
    assert (options["seed"], options["lum_scale"], options["no_report"], options["sigma"]) == (4, 2e14, False, "0.1")
    assert (folder / "seed" / "report.html").exists()


@pytest.mark.parametrize("command", ["run", "fit", "hosts", "stream"])
def test_every_switch_of_a_file_can_be_turned_off_and_on(command, tmp_path):
    switches = [s.name for s in SETTINGS[command] if s.kind is bool and s.name not in COMMAND_LINE_ONLY]
    assert "quiet" in switches
    parser = typer.main.get_command(app).commands[command]

    def values(in_file, *args):
        text = "".join(f"{name}: {in_file}\n" for name in switches)
        (tmp_path / "on.yaml").write_text(f"catalogue: in.csv\nout: out\n{text}")
        context = parser.make_context(command, ["--config", str(tmp_path / "on.yaml"), *args])
        return {name: context.params[name] for name in switches}

    on = [f"--{name.replace('_', '-')}" for name in switches]
    off = [f"--{flag.removeprefix('--no-')}" if flag.startswith("--no-") else f"--no-{flag[2:]}" for flag in on]
    assert values("true") == dict.fromkeys(switches, True)
    assert values("true", *off) == dict.fromkeys(switches, False)
    assert values("false", *on) == dict.fromkeys(switches, True)


@pytest.mark.slow
def test_another_catalogue_is_refused_unless_it_is_given(folder):
    saved = (folder / "in.csv").read_text()
    try:
        (folder / "in.csv").write_text(saved.replace("c3,", "c3x,"))
        error = refused_by_program(folder, "run", "--config", "first/run.json", "--out", "other")
        assert "in.csv has changed since first/run.json was written" in error and "command line" in error
        ran = program(folder, "run", "in.csv", "--config", "first/run.json", "--out", "other", "--quiet")
        assert ran.returncode == 0 and ran.stdout == "", ran.stderr
    finally:
        (folder / "in.csv").write_text(saved)


@pytest.mark.slow
def test_refusals_by_the_program(folder):
    (folder / "bad.yaml").write_text("lum: mass\nsigmakind: linear\n")
    error = refused_by_program(folder, "run", "in.csv", "--out", "new", "--config", "bad.yaml")
    assert "bad.yaml, line 2" in error and "the nearest is sigma_kind" in error
    (folder / "empty.yaml").write_text("")
    error = refused_by_program(folder, "run", "--config", "empty.yaml", "--out", "new")
    assert "catalogue" in error.lower()
    assert "first exists" in refused_by_program(folder, "run", "--config", "run.yaml")
    assert "give it to massmap-jax run" in refused_by_program(folder, "fit", "--config", "first/run.json")
    assert "run, fit, hosts, stream" in refused_by_program(folder, "config", "demo")


@pytest.mark.slow
def test_a_fit_and_a_stream_from_their_records(folder):
    """A fit repeated gives the same relation files; a stream the same parts, and refuses another input."""
    prior = "alpha1=0:3,alpha2=1:0.3,alpha4=0,scatter=0.3:0.2,alpha3=1e14"
    ran = program(
        folder, "fit", "in.csv", "--out", "fit", "--lum", "mass", "--sigma", "0.1", "--lum-unit", "counts",
        "--relation-prior", prior, "--no-figures", "--accept-misfit",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert program(folder, "fit", "--config", "fit/run.json", "--out", "fit2").returncode == 0
    assert bytes_of(folder / "fit") == bytes_of(folder / "fit2") and "relation.csv" in bytes_of(folder / "fit")
    assert record_of(folder / "fit")[0] == record_of(folder / "fit2")[0]

    ran = program(
        folder, "stream", "in.csv", "--out", "stream", "--lum", "mass", "--sigma", "0.1", "--lum-unit", "counts",
        "--relation", "fit/relation.npz", "--relation-from", "this_catalogue", "--method", "analytic",
        "--chunk-rows", "40",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ran = program(folder, "stream", "--config", "stream/run.json", "--out", "stream2")
    assert ran.returncode == 0, ran.stderr
    parts = {name: data for name, data in bytes_of(folder / "stream").items() if name.startswith("masses")}
    again = bytes_of(folder / "stream2")
    assert len(parts) == 2 and {name: again[name] for name in parts} == parts
    assert "60 rows" in program(folder, "info", "stream").stdout
    saved = (folder / "in.csv").read_text()
    try:
        (folder / "in.csv").write_text(saved.replace("c3,", "c3x,"))
        error = refused_by_program(folder, "stream", "--config", "stream/run.json", "--out", "stream3")
        assert "in.csv is another" in error and "command line" in error
    finally:
        (folder / "in.csv").write_text(saved)
    error = refused_by_program(
        folder, "run", "in.csv", "--out", "stream", "--overwrite", "--relation", "identity", "--lum", "mass"
    )
    assert "result of a stream" in error and (folder / "stream" / "masses").is_dir()


# -- the program's own face --------------------------------------------------------------------------------------------


def test_without_arguments_help_is_shown(tmp_path):
    ran = program(tmp_path)
    assert "Usage" in ran.stdout and "stream" in ran.stdout
    assert ran.returncode in (0, 2) and ran.stderr == ""


def test_the_package_runs_as_the_program(monkeypatch, capsys):
    import runpy

    import massmap_jax

    monkeypatch.setattr(sys, "argv", ["massmap_jax", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("massmap_jax", run_name="__main__")
    assert not ended.value.code and capsys.readouterr().out == f"massmap-jax {massmap_jax.__version__}\n"


def test_version_and_completion(tmp_path):
    import massmap_jax

    assert program(tmp_path, "--version").stdout == f"massmap-jax {massmap_jax.__version__}\n"
    ran = program(tmp_path, _MASSMAP_JAX_COMPLETE="complete_bash", COMP_WORDS="massmap-jax run --lum-s", COMP_CWORD="2")
    assert "--lum-scale" in ran.stdout.split()
    for name in ("--show-completion", "--install-completion"):
        assert name in program(tmp_path, "--help", COLUMNS="120").stdout


@pytest.mark.parametrize("command", ["run", "fit", "hosts", "stream"])
def test_options_stand_under_their_headings(command, tmp_path):
    shown = program(tmp_path, command, "--help", COLUMNS="120").stdout
    headings = ["Catalogue", "Observable", "Mass prior", "Relation", "Output", "Machine"]
    headings += [] if command == "fit" else ["Map"]
    places = [shown.index(f"─ {heading} ─") for heading in headings]
    assert len(set(places)) == len(headings)
    plain = shown[shown.index("─ Options ─") :].split("╰")[0]
    assert {line.split()[1] for line in plain.splitlines() if line.startswith("│ --")} == {"--config", "--help"}


def test_range_of_the_mass_prior():
    """The lowest mass of the prior is what a fit rests on: the command line sets it for --prior hmf."""
    from massmap_jax.run.options import JobOptions, PriorOptions, check_options, load_prior

    prior = load_prior(PriorOptions(source="hmf", mass_range="2e13:3e15"))
    assert np.exp([prior.ln_mass_min, prior.ln_mass_max]) == pytest.approx([2e13, 3e15], rel=0.05)
    for text in ("13:16", "1e16:1e13", "1e13", "1e13:nan", "a:b"):
        with pytest.raises(MassmapError, match=r"prior_mass_range .* such as 1e13:1e16"):
            check_options(JobOptions(relation="identity", prior=PriorOptions(source="hmf", mass_range=text)))
