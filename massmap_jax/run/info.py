"""Short descriptions of files and result folders (`massmap-jax info`)."""

from pathlib import Path

import numpy as np

from massmap_jax.catalogue.result_folder import RECORD, record_of
from massmap_jax.catalogue.tables import split_extension
from massmap_jax.errors import MassmapError
from massmap_jax.posterior.columns import PROGRAM


def describe_path(path) -> str:
    """Text about a result folder, a prior (.npz), a mass map, or any table that can be read; FILE[EXTENSION] too."""
    name, extension = split_extension(str(path))
    if extension is not None:
        return _describe_table(str(path))
    path = Path(name)
    if not path.exists():
        raise MassmapError(f"{path} does not exist: give a catalogue, a prior, a map or a result folder")
    if path.is_dir():
        return _describe_run(path)
    if path.suffix == ".npz":
        return _describe_npz(path)
    images = _extensions(path) if path.suffix in (".fits", ".fit") else set()
    if "KAPPA" in images:
        return _describe_convergence(path)
    if images & {"MEAN", "MEAN_1", "HEALPIX"} and images & {"NOBJ", "NOBJ_1", "HEALPIX"}:
        return _describe_map(path)
    return _describe_table(str(path))


def _describe_run(path: Path) -> str:
    """Describe a result folder by its run.json."""
    file = path / RECORD
    record = record_of(file.read_bytes()) if file.is_file() else None
    if record is None or record.get("program") != PROGRAM:
        raise MassmapError(f"{path} is not a result folder: it has no run.json of this program")
    try:
        lines = _lines_of_record(path, record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MassmapError(
            f"{file} is not as the program wrote it, it was damaged or edited: read the tables themselves "
            f"(massmap-jax info FILE), or run again"
        ) from error
    lines += sorted(str(inside.relative_to(path)) for inside in path.rglob("*") if inside.is_file())
    return "\n".join(lines)


def _lines_of_record(path: Path, record: dict) -> list[str]:
    """What a run.json says of its result."""
    lines = [f"{path}: result of {record['program']} {record['version']}"]
    with_mass = f", {record['rows_with_mass']} with a mass" if "rows_with_mass" in record else ""
    lines.append(f"catalogue: {record.get('catalogue')}, {record['rows']} rows{with_mass}")
    lines += [f"  {number} rows: {name}" for name, number in record["flags"].items()]
    for key in ("mass_definition", "prior", "relation", "relation_from", "method", "seed"):
        if key in record:
            lines.append(f"{key.replace('_', ' ')}: {record[key]}")
    if record.get("fit"):
        fit = record["fit"]
        lines += [f"  {p}: {fit['mean'][p]:.5g} +- {fit['sd'][p]:.2g}" for p in fit["mean"]]
    if cosmology := record.get("cosmology_draws"):
        lines.append(f"cosmology: {cosmology['summary']}")
    for name, found in ((record.get("observables") or {}).get("by_name") or {}).items():
        kinds = ("measured", "upper_limits", "lower_limits", "missing")
        told = ", ".join(f"{found[kind]} {kind.replace('_', ' ')}" for kind in kinds if found[kind])
        lines.append(f"observable {name}: {told}")
    if likelihoods := record.get("mass_likelihoods"):
        lines.append(f"mass likelihoods: {likelihoods['objects']} objects, {likelihoods['file']}")
    if record.get("map"):
        lines.append(f"map: {record['map']}")
    return lines


def _describe_npz(path: Path) -> str:
    """Describe a mass prior or a fitted relation."""
    from massmap_jax.prior.mass_prior import MassPrior
    from massmap_jax.relation.cosmology_posterior import CosmologyPosterior
    from massmap_jax.relation.joint_posterior import JointPosterior

    if CosmologyPosterior.is_saved(path):
        return f"{path}: {CosmologyPosterior.load(path).summary()}"
    if JointPosterior.is_saved(path):
        return f"{path}: {JointPosterior.load(path).summary()}"
    try:
        prior = MassPrior.load(path)
    except MassmapError:
        from massmap_jax.catalogue.relation_files import read_relation

        draws = read_relation(path, ignore_columns=True)
        lines = [f"{path}: relation, {draws['alpha1'].size} draws"]
        told = {name: values for name, values in draws.items() if isinstance(values, np.ndarray)}
        lines += [f"  {name}: {values.mean():.5g} +- {values.std():.2g}" for name, values in told.items()]
        lines += [f"  {name}: {value}" for name, value in draws.items() if name not in told]
        return "\n".join(lines)
    low, high = prior.ln_mass_min / 2.302585092994046, prior.ln_mass_max / 2.302585092994046
    nodes = prior.redshift_nodes
    return (
        f"{path}: mass prior, {prior.description}\n"
        f"masses {prior.mass_definition}, log10(M/Msun) {low:.2f} to {high:.2f} in {prior.ln_mass_nodes.size} nodes, "
        f"z {nodes[0]:g} to {nodes[-1]:g} in {nodes.size} nodes, ends: {prior.support}"
    )


def _extensions(path: Path) -> set[str]:
    """Names of a FITS file's extensions; none where it is another kind of file by its first bytes."""
    from massmap_jax.catalogue.tables import open_plain
    from massmap_jax.maps.fits_structure import checked_names

    with open_plain(str(path)) as file:
        if file.read(6) != b"SIMPLE":
            return set()
    return set(checked_names(path))


def _describe_convergence(path: Path) -> str:
    """Describe a convergence map."""
    from massmap_jax.maps.convergence_files import read_convergence

    found = read_convergence(path)
    meta, mean = found["meta"], found["mean"]
    lines = [
        f"{path}: convergence for sources at z = {meta['source_redshift']:g}, {found['grid'].describe()}, "
        f"mean {mean.min():.3g} to {mean.max():.3g}"
    ]
    return "\n".join(lines + [f"{key}: {value}" for key, value in meta.items() if value is not None])


def _describe_map(path: Path) -> str:
    """Describe a mass map."""
    from massmap_jax.maps.files import read_map

    found = read_map(path)
    grid, meta, edges = found["grid"], found["meta"], found["redshift_edges"]
    lines = [f"{path}: mass map, {grid.describe()}, total {meta['total_mass']:.4e} Msun"]
    if edges is not None:
        lines.append(f"redshift slices: {', '.join(f'{edge:g}' for edge in edges)}")
    return "\n".join(lines + [f"{key}: {value}" for key, value in found["meta"].items() if value is not None])


def _describe_table(path: str) -> str:
    from massmap_jax.catalogue.column_names import id_columns
    from massmap_jax.catalogue.tables import open_table

    table = open_table(path, text_columns=id_columns())
    lines = [f"{path}: table", *(f"  note: {note}" for note in table.notes)]
    for name in table.names:
        values = table.column(name)
        unit = f" [{table.units[name]}]" if name in table.units else ""
        text = f"  {name}{unit}: {values.shape[0]} values"
        if values.dtype.kind in "fiu" and values.ndim == 1:
            numbers = np.ma.filled(np.ma.asarray(values).astype(float), np.nan)
            finite = numbers[np.isfinite(numbers)]
            spread = f"{finite.min():g} to {finite.max():g}" if finite.size else "none finite"
            text += f", {spread}" + (f", {values.size - finite.size} not finite" if finite.size < values.size else "")
        lines.append(text)
    return "\n".join(lines)
