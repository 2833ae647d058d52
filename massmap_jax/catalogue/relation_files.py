"""`read_relation`: draws of the mass-luminosity relation from tables and from the chains of samplers.

A column that would change the answer is never dropped: it is understood, or named and refused.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from massmap_jax.catalogue.archives import read_npz, told_of_archive
from massmap_jax.catalogue.column_names import named_column
from massmap_jax.catalogue.columns import ColumnTable, as_float64, rows_text
from massmap_jax.catalogue.csv_metadata import read_metadata
from massmap_jax.catalogue.luminosity import named_log
from massmap_jax.catalogue.parquet_metadata import own_metadata
from massmap_jax.catalogue.tables import open_plain, open_table, sniff_format
from massmap_jax.catalogue.units import has_little_h, is_log_unit, log_kind, split_unit_scale
from massmap_jax.choices import check_scatter
from massmap_jax.errors import MassmapError

PARAMETERS = ("alpha1", "alpha2", "alpha3", "alpha4", "scatter", "gamma")
_ALSO = {"scatter": ("s",)}
_WEIGHTS = ("weight", "weights", "wt", "multiplicity", "mult", "importance", "importance_weight")
_LN_WEIGHTS = (
    "log_weight",
    "log_weights",
    "logweight",
    "logweights",
    "log_wt",
    "logwt",
    "logw",
    "ln_weight",
    "lnweight",
)
_LN_WEIGHTS += ("lnwt", "lnw", "ln_w", "log_w")
# Columns that samplers write beside the parameters; they say how good a draw is or where it came from. Those with
# "weight" in their name are none of them; the one without a name is the index that pandas writes.
_BOOKKEEPING = re.compile(
    r"(?!.*(?:weight|wt))(?:"
    r"(?:minus_?)?(?:log|ln)_?(?:post(?:erior)?|prior|like(?:lihood)?|prob(?:ability)?|p|l|evidence)(?:__\w+)?|lp(?:__)?"
    r"|(?:minuslogpost|minuslogprior|minusloglike|chi2|like|prior|post(?:erior)?)(?:__?.*|\*)?|(?:chain|iteration|iter|step"
    r"|draw|walker|sample|index|accept|accepted|acceptance)(?:_?(?:id|no|num(?:ber)?|index))?|(?:unnamed: 0)?|rank"
    r"|(?:m2|minus2)_?log_?like"
    r"|(?:accept_stat|stepsize|treedepth|n_leapfrog|divergent|energy)__?)"
)
# Those of nested samplers, whose draws mean nothing without their weights.
_NESTED = re.compile(r"nlive|(?:log|ln)_?l(?:ike)?_birth|(?:log|ln)_?(?:z|vol)(?:_?(?:err|var))?")
_LABELS = {
    "mass_definition": ("mass_definition", "massdef", "mass_def", "mdef"),
    "lum_unit": ("lum_unit", "luminosity_unit", "observable_unit"),
    "evolution": ("evolution",),
    "omega_m": ("omega_m", "om0", "omegam"),
    "alpha3": ("alpha3", "pivot", "pivot_mass", "alpha3_msun"),
}
# Header entries that are known not to change what the draws mean.
_SILENT = {"seed", "author", "authors", "date", "created", "reference", "source", "doi", "url", "license", "title"}
# What this program writes into its own files, one of which is always there.
_OWN = ("program", "relation_source")
# What a description or header says of a number in decimal logarithms.
_DEX = r"(?i)\bdex\b|\blog_?10\b|decimal log|\blog(?:arithm)?s? (?:of )?base\W{0,3}10\b"
_NOT_OF_IT = r"(?i)\balpha3\b|pivot|mass|\bln\b|natural"
# A draw so many errors from the median of so many or more is none, if it has more than this part of the weight.
_STRAY, _FEW_DRAWS, _WEIGHS_NOTHING = 100.0, 20, 1e-4


def read_relation(
    path,
    *,
    columns: Mapping[str, str | float] | None = None,
    ignore_columns: bool = False,
    notes: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """Read draws of the mass-luminosity relation from a file.

    Parameters
    ----------
    path : str or os.PathLike
        An .npz archive; a table of any kind that `open_table` reads, one row per draw; a text chain of GetDist (with
        its .paramnames beside it), Cobaya or CosmoSIS; the ROOT of such files, ROOT.txt or ROOT_1.txt and so on (see
        `chain_files`); or an HDF5 file of emcee or ArviZ (NetCDF, its posterior).
    columns : mapping of str to (str or float), optional
        Which column is which parameter, as {"alpha1": "a", "scatter": "sig"}; a number instead of a column is the value
        of alpha3, alpha4, gamma or scatter in all draws.
    ignore_columns : bool
        Leave out columns and header lines that are not understood, instead of refusing them.
    notes : list of str, optional
        What was taken for granted is added to it.

    Returns
    -------
    dict of str to Float[np.ndarray, "draw"]
        alpha1, alpha2, alpha3 [Msun], alpha4 and scatter; gamma and log_weight where the file has them (weights become
        their ln); and the labels that its header states as text or number, mass_definition, lum_unit, evolution and
        omega_m: the arguments of `MassLuminosityRelation.from_draws`.

    Raises
    ------
    MassmapError
        For a parameter that is missing (the pivot alpha3 too), values that are not finite, a negative scatter or
        weight, or columns and header lines that are not understood.
    """
    path, notes = str(path), [] if notes is None else notes
    table, header = open_chains(path, notes)
    mapping = {str(key): value for key, value in (columns or {}).items()}
    unknown = sorted(mapping.keys() - {*PARAMETERS, "weight", "log_weight"})
    if unknown:
        raise MassmapError(
            f"relation columns are given for {', '.join(unknown)}: a relation has {', '.join(PARAMETERS)},"
            " and weight or"
            " log_weight"
        )
    found = {name: column for name in PARAMETERS if (column := _column_of(table, name, mapping)) is not None}
    labels, lost = _labels(header)
    if "alpha3" in labels and "alpha3" not in found:
        found["alpha3"] = labels["alpha3"]
        notes.append(f"relation: the pivot alpha3 = {labels['alpha3']:g} Msun is from the header of {path}")
    labels.pop("alpha3", None)
    weight = weight_column(table, mapping, path)
    if "alpha4" not in found and "gamma" in found:
        found["alpha4"] = 0.0
    missing = [name for name in PARAMETERS[:5] if name not in found]
    if missing:
        listed = ", ".join(table.names[:20])
        raise MassmapError(
            f"{path} has no {', '.join(missing)}: a relation needs alpha1, alpha2, alpha3 (the pivot mass"
            " in Msun), alpha4"
            " and scatter, one draw per row; say which column is which with"
            f" relation_columns='{missing[0]}=...'; columns:"
            f" {listed}"
        )
    used = {c for c in found.values() if isinstance(c, str)} | ({weight[0]} if weight else set())
    _refuse_unknown(table, used, header if lost is None else lost, ignore_columns, weight is not None, notes)
    _refuse_dex(table, found, lost)
    draws = {name: _values(table, name, column, path) for name, column in found.items()}
    if "alpha3" in draws and isinstance(found["alpha3"], str):
        draws["alpha3"] = _pivot(draws["alpha3"], table.units.get(found["alpha3"], ""), path)
    if weight:
        draws["log_weight"] = ln_weights(table, *weight, path)
        notes.append(f"relation: draws are weighted by {weight[0]!r} ({weight[1]})")
    return _checked(draws, path) | labels


def _column_of(table: ColumnTable, name: str, mapping) -> str | float | None:
    """Give the column of a parameter, by the user's mapping or its usual name, or its value in all draws."""
    if name in mapping:
        given = mapping[name]
        if isinstance(given, str) and given in table.names:
            return given
        try:
            value = float(given)
        except (TypeError, ValueError):
            return named_column(table, str(given), "relation_columns")
        if str(given).isdecimal() and f"p{given}" in table.names:
            raise MassmapError(f"relation_columns gives {name} the number {given}: write p{given} if a column is meant")
        if name in ("alpha1", "alpha2"):
            raise MassmapError(
                f"relation_columns gives {name} the value {value:g} in all draws: name its column, of"
                f" {', '.join(table.names[:20])}"
            )
        return value
    for usual in (name, *_ALSO.get(name, ())):
        # CosmoSIS writes section--name.
        same = [c for c in table.names if c.strip().lower().rpartition("--")[2] == usual]
        if len(set(same)) > 1:
            raise MassmapError(
                f"{' and '.join(map(repr, same))} of {table.label} could each be {name}: choose one with"
                f" relation_columns='{name}={same[0]}'"
            )
        if same:
            return named_column(table, same[0], "relation_columns")
    return None


def _refuse_dex(table: ColumnTable, found: Mapping[str, str | float], lines: list[str]) -> None:
    """Refuse a zero point or a scatter in dex, by its unit or name, its description or lines of the header."""
    for name in ("alpha1", "scatter"):
        column = found.get(name)
        if not isinstance(column, str):
            continue
        told = "name of its column" if named_log(column) == "log10" else "unit of its column"
        if "log10" not in (log_kind(table.units.get(column, "")), named_log(column)):
            of = table.descriptions.get(column, "")
            spoken = [of] if of else [line for line in lines if not re.search(_NOT_OF_IT, line)]
            if not any(re.search(_DEX, text) for text in spoken):
                continue
            told = "description of its column" if of else "header beside its column"
        raise MassmapError(
            f"{name} of {table.label} is in dex or log10 by the {told} {column!r}: a relation"
            " has natural logarithms, so multiply it by ln(10) = 2.302585 and write no dex"
        )


def weight_column(table: ColumnTable, mapping, path: str, option: str = "relation_columns") -> tuple[str, str] | None:
    """Give the column of the weights and whether it holds weights or their ln; `option` is what names columns."""
    if "weight" in mapping and "log_weight" in mapping:
        raise MassmapError(f"{option}= is given for weight and log_weight: give one of them")
    for role in ("weight", "log_weight"):
        if role in mapping:
            return named_column(table, str(mapping[role]), option), role
    found = [(c, "weight") for c in table.names if c.strip().lower() in _WEIGHTS]
    found += [(c, "log_weight") for c in table.names if c.strip().lower() in _LN_WEIGHTS]
    if len(found) > 1:
        # A relation has no column that is not understood; draws of the cosmology have many.
        other = ", and ignore_columns for the other" if option == "relation_columns" else ""
        raise MassmapError(
            f"{' and '.join(repr(c) for c, _ in found)} of {path} are both weights of the draws: choose one with"
            f" {option}='{found[0][1]}={found[0][0]}'{other}"
        )
    return found[0] if found else None


def _refuse_unknown(table, used, lines, ignore, weighted, notes) -> None:
    """Refuse columns and header lines that are not understood, or say that they were left out."""
    rest = [c for c in table.names if c not in used]
    own = (_BOOKKEEPING, _NESTED) if weighted else (_BOOKKEEPING,)
    known = [c for c in rest if any(form.fullmatch(c.strip().lower()) for form in own)]
    strange = [c for c in rest if c not in known]
    if any(c.startswith("population_") for c in strange):
        raise MassmapError(
            f"{table.label} holds draws of a relation that was fitted jointly with a population, and they belong"
            " together: give relation.npz of the same fit, which keeps them paired, and not this table"
        )
    if not ignore and any(c.strip().lower() == "sigma8" for c in strange):
        raise MassmapError(
            f"{table.label} holds draws of a relation that was fitted together with a cosmology ('sigma8'), and they"
            " belong together: give relation.npz of the same fit, which keeps them paired; ignore_columns=True takes"
            " the relation alone, whose masses then lack the error of the cosmology"
        )
    if known:
        listed = ", ".join(c or "the unnamed index" for c in known)
        notes.append(f"relation: {listed} of {table.label} are a sampler's own columns and not used")
    what = [f"columns {', '.join(map(repr, strange[:10]))}"] if strange else []
    what += [f"header lines {' | '.join(repr(line[:60]) for line in lines[:5])}"] if lines else []
    if not what:
        return
    if not ignore:
        raise MassmapError(
            f"{table.label} has {' and '.join(what)}, which a relation of alpha1, alpha2, alpha3, alpha4, scatter and"
            " gamma does not have: leave them out of the file, name them with relation_columns=, or pass"
            " ignore_columns=True if they change nothing"
        )
    notes.append(f"relation: not used, as ignore_columns says: {' and '.join(what)} of {table.label}")


def _values(table: ColumnTable, name: str, column: str | float, path: str) -> np.ndarray:
    if not isinstance(column, str):
        return np.array([column], dtype=np.float64)
    return np.atleast_1d(as_float64(np.atleast_1d(table.column(column)), f"relation parameter {name!r} of {path}"))


def _pivot(alpha3: np.ndarray, unit: str, path: str) -> np.ndarray:
    """Give the pivot in Msun; refuse one in units with h, a logarithm, or one that lacks its 10^14."""
    if has_little_h(unit) or is_log_unit(unit):
        raise MassmapError(f"the pivot alpha3 of {path} is in {unit!r}: write it in Msun without h")
    alpha3 = alpha3 * split_unit_scale(unit)[0]
    odd = (alpha3 > 0) & (alpha3 != 1) & (alpha3 < 1000)
    if odd.any():
        raise MassmapError(
            f"the pivot alpha3 of {path} is no mass in Msun in {rows_text(odd, alpha3)}: write 3e14, not 14.5 or 3"
        )
    return alpha3


def ln_weights(table: ColumnTable, column: str, role: str, path: str, option: str = "relation_columns") -> np.ndarray:
    """Read a column of weights, or of their ln, as `weight_column` found it; ln of the weights."""
    values = np.atleast_1d(as_float64(np.atleast_1d(table.column(column)), f"weight {column!r} of {path}"))
    if role == "log_weight":
        return values
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any() or not values.any():
        said = rows_text(bad, values) if bad.any() else "all of them are 0"
        raise MassmapError(
            f"weights {column!r} of {path} must be finite, not negative and not all 0, but {said}: correct them, or say"
            f" {option}='log_weight={column}' if they are logarithms"
        )
    with np.errstate(divide="ignore"):
        return np.log(values)


def _checked(draws: dict[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """Give every parameter one value per draw; refuse what no relation has."""
    rows = max(values.size for values in draws.values())
    if min(values.size for values in draws.values()) == 0:
        raise MassmapError(f"{path} has no rows: a relation needs at least one draw")
    for name, values in draws.items():
        if values.size not in (1, rows):
            raise MassmapError(
                f"relation parameter {name!r} of {path} has {values.size} draws where another has {rows}:"
                " give one per draw"
            )
        values = draws[name] = np.broadcast_to(values, (rows,)).copy()
        # A weight of zero is a log weight of -inf, which is allowed.
        bad = np.isnan(values) | (values == np.inf) if name == "log_weight" else ~np.isfinite(values)
        if name == "scatter":
            bad |= values < 0
        if bad.any():
            need = "finite and not negative" if name == "scatter" else "finite"
            raise MassmapError(
                f"relation parameter {name!r} of {path} must be {need}, but is not in"
                f" {rows_text(bad, values)}: remove those draws"
            )
    strays = {name: draws[name] for name in ("alpha1", "alpha2", "alpha4", "gamma", "scatter") if name in draws}
    refuse_strays(strays, draws.get("log_weight", np.zeros(1)), path, "relation")
    if "scatter" in draws:
        check_scatter(float(np.median(draws["scatter"])), f"the median scatter of {path}")
    return draws


def refuse_strays(draws: Mapping[str, np.ndarray], ln_weight: np.ndarray, path: str, what: str) -> None:
    """Refuse draws far from all others, which are placeholders or the warm-up of a sampler, if they weigh anything.

    Parameters
    ----------
    draws : mapping of str to Float[np.ndarray, "draw"]
        Values of each parameter.
    ln_weight : Float[np.ndarray, "draw"]
        ln of their weights.
    path : str
        Where they are from.
    what : str
        What they are the parameters of.

    Raises
    ------
    MassmapError
        Values more than 100 errors from the median.
    """
    weight = np.exp(ln_weight - ln_weight.max())
    for name, values in draws.items():
        if values.size < _FEW_DRAWS:
            continue
        away = np.abs(values - np.median(values))
        # By their size where most are the same.
        error = 1.4826 * np.median(away) or 0.01 * max(1.0, abs(np.median(values)))
        far = away > _STRAY * error
        if (weight * far).sum() > _WEIGHS_NOTHING * (weight * np.ones(far.size)).sum():
            raise MassmapError(
                f"{what} parameter {name!r} of {path} lies more than {_STRAY:g} of its errors from the median in"
                f" {rows_text(far, values)}: these draws are placeholders or the warm-up of a sampler, so remove them"
            )


# -- headers ---------------------------------------------------------------------------------------------------


def _labels(header: list[str]) -> tuple[dict, list[str]]:
    """Labels that the header states, and the lines of it that are not understood."""
    labels, lost = {}, []
    entries = [re.fullmatch(r"\s*([A-Za-z][\w .-]*?)\s*[:=]\s*(.*?)\s*", line) for line in header]
    own = any(entry and entry[1].lower() in _OWN for entry in entries)
    for line, entry in zip(header, entries, strict=True):
        key = entry[1].lower().replace(" ", "_") if entry else ""
        name = next((name for name, words in _LABELS.items() if key in words), None)
        if name is not None:
            value = entry[2].strip("'\"")
            labels[name] = value if name not in ("omega_m", "alpha3") else _number(line, value)
            if name == "lum_unit" and value.lower() in ("unknown", "none"):
                labels[name] = ""
        elif not own and key not in _SILENT and line.strip():
            lost.append(line.strip())
    return labels, lost


def _number(line: str, value: str) -> float:
    try:
        return float(value.split()[0])
    except (ValueError, IndexError):
        raise MassmapError(
            f"the header line {line!r} of the relation holds no number: write it as alpha3 = 3e14"
        ) from None


def _comments(path: str, names) -> tuple[list[str], bool]:
    """Comment lines of a text file but the one that names its columns, and whether CosmoSIS wrote it."""
    with open_plain(path) as file:
        lines = [line.decode("utf-8", "replace").strip() for line in file if line.lstrip().startswith(b"#")]
    cosmosis = any(line.startswith("##") for line in lines)
    found = []
    for line in lines:
        words = re.split(r"[\s,;|]+", line.lstrip("# \t"))
        if (words and set(words) - {""} == set(" ".join(names).split())) or (cosmosis and line.startswith("##")):
            continue
        if line.startswith("# column ") or not line.strip("#-= \t"):
            continue
        found.append(line.lstrip("# \t"))
    return found, cosmosis


# -- kinds of files --------------------------------------------------------------------------------------------


def chain_files(path) -> list[Path]:
    """Find the files of draws that a path names: itself, or the chains of which it is the root.

    Parameters
    ----------
    path : str or os.PathLike
        A file, or the ROOT of chains as GetDist has them (ROOT.paramnames beside ROOT.txt or ROOT_1.txt, ROOT_2.txt,
        ...) or Cobaya (ROOT.updated.yaml beside ROOT.1.txt, ...), or the file beside them.

    Returns
    -------
    list of Path
        The files in order; empty where there is none.
    """
    root = Path(re.sub(r"\.(?:paramnames|(?:updated|input)\.yaml)$", "", str(path)))
    if Path(path).is_file() and root == Path(path):
        return [root]
    beside = [f"{root}.{ending}" for ending in ("paramnames", "updated.yaml")]
    if not any(Path(file).is_file() for file in beside):
        return []
    number = re.compile(re.escape(root.name) + r"(?:[._](\d+))?\.txt")
    found = [(int(match[1] or 0), file) for file in root.parent.iterdir() if (match := number.fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def open_chains(path: str, notes: list[str]) -> tuple[ColumnTable, list[str]]:
    """Open a file of draws, or all chains of a root, one after the other."""
    if Path(path).is_dir():
        raise MassmapError(f"{path} is a folder: give a file of draws in it, or the root of the chains' names")
    files = chain_files(path)
    if files in ([], [Path(path)]):
        return _open(path, notes)
    if len(files) > 1 and Path(f"{path}.txt") in files:
        raise MassmapError(
            f"{path} is the root of {' and '.join(file.name for file in files[:3])}, which may hold the same draws: "
            "give the file, or move one of them"
        )
    opened = [_open(str(file), notes) for file in files]
    if len({table.names for table, _ in opened}) > 1:
        raise MassmapError(f"the chains {path}_1.txt and so on have other columns than each other: give one of them")
    notes[:] = dict.fromkeys(notes)
    if len(files) > 1:
        notes.append(f"relation: {len(files)} chains of {path}, one after the other")
    first, tables = opened[0][0], [table for table, _ in opened]
    lines = dict.fromkeys(line for _, header in opened for line in header)
    columns = {name: np.concatenate([np.atleast_1d(t.column(name)) for t in tables]) for name in first.names}
    return replace(first, label=path, column=columns.__getitem__), list(lines)


def _open(path: str, notes: list[str]) -> tuple[ColumnTable, list[str]]:
    """Open a file of draws: its columns, and the lines of its header as "key = value" or text."""
    if _starts_with(path, b"PK\x03\x04"):
        return _open_npz(path)
    if _starts_with(path, b"\x89HDF"):
        return _open_hdf5(path, notes), []
    if _starts_with(path, b"CDF"):
        raise MassmapError(f"{path} is NetCDF of version 3: write it anew with ArviZ, which writes NetCDF 4")
    names = _paramnames(path)
    if names is not None:
        notes.append(f"relation: {path} is a GetDist chain, its columns are named by {_paramnames_file(path).name}")
        notes.append("relation: no burn-in is removed")
        table = open_table(path, names=("weight", "minusloglike", *names))
        header, _ = _comments(path, table.names)
        # Only this program states labels there; what others write about a run changes no draw.
        own = any(line.split("=")[0].strip() in _OWN for line in header)
        return table, header if own else []
    kind = sniff_format(path)
    table = open_table(path)
    if kind == "text":
        header, cosmosis = _comments(path, table.names)
        header += [f"{key} = {value}" for key, value in read_metadata(path)[0].items()]
        chain = cosmosis or any(name.lower().startswith(("minuslogpost", "chi2")) for name in table.names)
        if chain:
            notes.append(
                f"relation: {path} is a chain of {'CosmoSIS' if cosmosis else 'Cobaya'}; no burn-in is removed"
            )
        return table, header
    return table, _metadata(path, kind)


def _metadata(path: str, kind: str) -> list[str]:
    """The header of a FITS, ECSV or Parquet file as lines; what the format itself writes is left out."""
    if kind == "fits":
        from astropy.table import Table

        meta = Table.read(path).meta
        of_column = r"(?:TTYPE|TFORM|TUNIT|TCOMM|TUCD|TDISP|TNULL)\d+"
        own = re.compile(of_column + "|EXTNAME|COMMENT|HISTORY|CHECKSUM|DATASUM", re.I)
        return [f"{key} = {value}" for key, value in meta.items() if not own.fullmatch(key)]
    if kind == "ecsv":
        from astropy.table import Table

        meta = Table.read(path, format="ascii.ecsv").meta
        return [f"{key} = {value}" for key, value in meta.items() if not key.startswith("__")]
    if kind == "parquet":
        import pyarrow.parquet as pq

        return [f"{key} = {value}" for key, value in own_metadata(pq.read_schema(path)).items()]
    if kind == "votable":
        from astropy.io import votable

        infos = votable.parse(path, verify="ignore").get_first_table().infos
        return [f"{info.name} = {info.value}" for info in infos if info.name != "QUERY_STATUS"]
    return []


def _starts_with(path: str, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _open_npz(path: str) -> tuple[ColumnTable, list[str]]:
    with told_of_archive(path, "cannot be read as npz"):
        arrays = {name: np.atleast_1d(array) for name, array in read_npz(path).items()}
    texts = {name for name, a in arrays.items() if a.dtype.kind in "US" and name.lower() in sum(_LABELS.values(), ())}
    header = [f"{name} = {arrays[name].ravel()[0]}" for name in texts]
    columns = {name: a for name, a in arrays.items() if name not in texts}
    if "omega_m" in columns and columns["omega_m"].size == 1:
        header.append(f"omega_m = {columns.pop('omega_m').ravel()[0]}")
    return ColumnTable(path, tuple(columns), columns.__getitem__), header


def _paramnames_file(path: str) -> Path:
    """Where GetDist has the names of a chain: root.paramnames for root.txt and root_1.txt."""
    own = Path(path)
    of_root = own.with_name(re.sub(r"[._]\d+$", "", own.stem) + ".paramnames")
    return own.with_suffix(".paramnames") if own.with_suffix(".paramnames").exists() else of_root


def _paramnames(path: str) -> list[str] | None:
    file = _paramnames_file(path)
    if Path(path).suffix != ".txt" or not file.is_file():
        return None
    lines = [line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    return [words[0].rstrip("*") for words in lines if words]


def _open_hdf5(path: str, notes: list[str]) -> ColumnTable:
    """Open the backend of emcee, or the posterior of ArviZ: every chain and step, one after the other."""
    try:
        import h5py
    except ImportError:
        raise MassmapError(
            f"{path} is HDF5 (NetCDF 4), which needs h5py to be read: pip install h5py, or write the draws to CSV"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            if "posterior" in file:
                arrays = _of_arviz(file["posterior"], h5py.Dataset)
                wrote = "ArviZ"
            else:
                group = next((g for g in file.values() if isinstance(g, h5py.Group) and "chain" in g), None)
                if group is None:
                    raise MassmapError(
                        f"{path} is HDF5 with {', '.join(file)}, neither a posterior of ArviZ nor a chain"
                        " of emcee: write"
                        " the draws to CSV"
                    )
                chain = np.asarray(group["chain"][: int(group.attrs.get("iteration", len(group["chain"])))])
                arrays = {f"p{i}": chain[:, :, i].ravel() for i in range(chain.shape[2])}
                wrote = "emcee"
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, MassmapError):
            raise
        raise MassmapError(f"{path} cannot be read as HDF5: {error}") from error
    steps = next(iter(arrays.values())).size if arrays else 0
    notes.append(f"relation: {steps} draws of all chains of {wrote} in {path}; no burn-in is removed")
    if wrote == "emcee":
        notes.append(f"relation: emcee has no names, its parameters are called {', '.join(arrays)}")
    return ColumnTable(path, tuple(arrays), arrays.__getitem__)


def _of_arviz(group, dataset) -> dict[str, np.ndarray]:
    """Scalars of a posterior, their chains one after the other; an array's elements are name[0], name[1], ..."""
    arrays = {}
    for name, data in group.items():
        if not isinstance(data, dataset) or data.ndim < 2 or name in ("chain", "draw"):
            continue
        values = np.asarray(data)
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        if values.ndim == 2:
            arrays[name] = flat[:, 0]
        else:
            arrays |= {f"{name}[{i}]": flat[:, i] for i in range(flat.shape[1])}
    return arrays
