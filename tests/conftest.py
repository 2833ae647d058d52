"""Where the public catalogues are; one cache of compiled code for a session; the slowest files first; what was skipped.

Where CI is set in the environment, a skip for any other reason than those of `EXPECTED_SKIPS` fails the run.
"""

import contextlib
import gc
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import compiled_code
import pytest
import small_chunks
from one_context import share_a_context

REPOSITORY = Path(__file__).resolve().parent.parent
# By their time in a whole run. Workers take whole files in turn: with these first, none is left with a long one at the
# end.
SLOWEST = (
    "test_surface.py",
    "test_relation_sbc.py",
    "test_relation_fit.py",
    "test_calibrated_runs.py",
    "test_joint_sbc.py",
    "test_stream.py",
    "test_cosmology_runs.py",
    "test_examples.py",
    "test_linear.py",
    "test_populations.py",
    "test_notebooks.py",
    "test_job.py",
    "test_posterior.py",
    "test_mcmc.py",
    "test_cli_bad_input.py",
    "test_joint_fit.py",
    "test_uncertain_redshifts.py",
    "test_uncertain_completeness.py",
    "test_lattice.py",
    "test_plot.py",
    "test_cosmology_fit.py",
    "test_joint_cosmology.py",
    "test_lsdb.py",
    "test_linear_noise_runs.py",
    "test_calibrators.py",
    "test_joint_linear.py",
    "test_linear_cosmology.py",
    "test_devices.py",
    "test_mixtures.py",
    "test_hosts_runs.py",
    "test_stream_bad_input.py",
    "test_checks.py",
    "test_mass_likelihoods.py",
    "test_surface_redshifts.py",
    "test_several.py",
    "test_models.py",
    "test_completeness.py",
    "test_satellites.py",
    "test_relation_likelihood.py",
    "test_stacks.py",
    "test_uncertain.py",
    "test_several_observables.py",
    "test_uncertain_slices.py",
    "test_types.py",
    "test_lensing.py",
    "test_mass_map.py",
    "test_hosts.py",
    "test_mass_likelihood_runs.py",
    "test_prior.py",
    "test_linear_redshifts.py",
    "test_below_zero.py",
    "test_validate.py",
    "test_progress.py",
    "test_abundance.py",
    "test_map_calibration.py",
    "test_redshift_limit.py",
    "test_population.py",
    "test_simulate.py",
    "test_stream_redshifts.py",
    "test_population_posterior.py",
    "test_config.py",
    "test_transforms.py",
    "test_cosmology_posterior.py",
    "test_core_without_extras.py",
    "test_cosmology_sbc.py",
    "test_populations_several.py",
    "test_data_term.py",
    "test_uncertain_linear.py",
    "test_map_options.py",
    "test_surveys.py",
    "test_shapes.py",
    "test_samplers.py",
    "test_cosmology_likelihood.py",
    "test_stack_evidence.py",
    "test_map_plan.py",
    "test_above_threshold.py",
    "test_observable_runs.py",
    "test_cosmology_derivatives.py",
    "test_linear_noise.py",
    "test_tutorial_photo_z.py",
    "test_coverage.py",
    "test_coordinates.py",
    "test_circle.py",
    "test_redshift_nodes.py",
    "test_halo_profiles.py",
    "test_quantile_table.py",
    "test_ridge.py",
    "test_uncertain_runs.py",
    "test_tutorials.py",
    "test_io.py",
    "test_host_map.py",
    "test_likelihood.py",
    "test_shear.py",
    "test_nonsense_cli.py",
    "test_calibration_columns.py",
    "test_result.py",
    "test_reference_agrees.py",
    "test_nearest_lognormal.py",
    "test_effects.py",
    "test_prior_hmf.py",
    "test_healpix.py",
    "test_profiles.py",
    "test_wide_draws.py",
    "test_map_io.py",
    "test_misfit.py",
)

# Why a test may be skipped in continuous integration: what no package index has. A package that is missing is no reason.
EXPECTED_SKIPS = (
    r"public catalogues not found",
    r"ACT DR3 clusters not found",
    r"there is a GPU here",
    r"there is no GPU here",
    r"permissions do not hold back root",
)

# Compiling is most of the suite's work, and XLA's older CPU kernels, optimised less and compiled in one piece, take half
# of the time. The tests run on them, but for a catalogue of test_job.py, whose program runs as users' do. XLA_FLAGS in
# the environment, even empty, replaces this.
QUICK = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
    "xla_cpu_parallel_codegen_split_count": 1,
}

# Files whose tests compute so little that code which is not optimised at all saves more in compiling than it costs.
BARELY_OPTIMISED = {
    "relation/test_mass_likelihoods.py",
    "test_abundance.py",
    "test_below_zero.py",
    "test_calibrated.py",
    "test_coordinates.py",
    "test_cosmology_derivatives.py",
    "test_cosmology_fit.py",
    "test_cosmology_posterior.py",
    "test_cosmology_runs.py",
    "test_cosmology_sbc.py",
    "test_data_term.py",
    "test_documents.py",
    "test_examples.py",
    "test_halo_profiles.py",
    "test_host_map.py",
    "test_hosts.py",
    "test_joint_cosmology.py",
    "test_joint_fit.py",
    "test_joint_linear.py",
    "test_lattice.py",
    "test_likelihood.py",
    "test_linear_cosmology.py",
    "test_linear_noise_runs.py",
    "test_linear_redshifts.py",
    "test_map_kinds.py",
    "test_map_options.py",
    "test_mass_map.py",
    "test_models.py",
    "test_nearest_lognormal.py",
    "test_notebooks.py",
    "test_panels.py",
    "test_population.py",
    "test_populations_several.py",
    "test_posterior.py",
    "test_prior.py",
    "test_quantile_table.py",
    "test_redshift_limit.py",
    "test_redshift_nodes.py",
    "test_relation.py",
    "test_result.py",
    "test_ridge.py",
    "test_several.py",
    "test_several_observables.py",
    "test_stack_evidence.py",
    "test_stream_redshifts.py",
    "test_transforms.py",
    "test_tutorial_photo_z.py",
    "test_tutorials.py",
    "test_uncertain_linear.py",
    "test_uncertain_redshifts.py",
    "test_uncertain_slices.py",
}

# Tests in these files that compute more than they compile: chains, and thousands of draws.
OPTIMISED = {
    "test_samples_follow_the_density_and_the_2017_mistake_does_not",
}

_begun: dict[str, Path] = {}


def pytest_configure(config):
    """The workers and the programs they start share what they compile, in caches of this session's own."""
    worker = hasattr(config, "workerinput")
    if worker and hasattr(os, "sched_setaffinity"):
        # One core a worker, the programs it starts included: XLA's threads wait for work by spinning, and workers with
        # as many threads as there are cores take the time from each other (half of it on two cores).
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(config.workerinput["workerid"].removeprefix("gw")) % len(cores)]})
    if not worker and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        config.compiled = tempfile.mkdtemp(prefix="massmap_tests_")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = config.compiled
    # Where in the source an operation comes from is written into the code to compile: a tenth of tracing and lowering.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    import jax

    share_a_context()
    jax.config.update("jax_traceback_in_locations_limit", int(os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"]))
    if worker:
        jax.jit(lambda: 0.0)()  # reads XLA_FLAGS, once and for all
        if os.environ.get("XLA_FLAGS") == _as_flags(QUICK):
            del os.environ["XLA_FLAGS"]
            _name_the_flags()
    elif "XLA_FLAGS" not in os.environ:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a version of XLA without the option
            jax.jit(lambda: 0.0, compiler_options=QUICK)()
            # The second for programs of which a test wants the words and the files, not the speed.
            os.environ["XLA_FLAGS"] = os.environ["MASSMAP_TEST_XLA"] = _as_flags(QUICK)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _name_the_flags():
    """Keep compiled code under the flags of this process, which the environment no longer has.

    The programs of `warm_start` have the same flags: a test that compares them with the library compiles once. Where
    JAX has no such function, a worker has a folder of its own, for a program without the flags takes other code.
    """
    import jax

    try:
        from jax._src import cache_key

        hash_string, by_environment = cache_key._hash_string, cache_key._hash_xla_flags
    except (ImportError, AttributeError):
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"] + "/workers")
        return

    def hash_xla_flags(hash_obj, prefixes):
        for flag in sorted(_as_flags(QUICK).split()):
            hash_string(hash_obj, flag)
        by_environment(hash_obj, prefixes)

    cache_key._hash_xla_flags = hash_xla_flags


def _as_flags(options):
    return " ".join(f"--{name}={str(value).lower()}" for name, value in options.items())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Say what was skipped and why, in one line below pytest's own last one; with CI set, refuse what is unexpected."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return (yield)
    line, unexpected = told_of_skips(reporter.stats.get("skipped", ()))
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if unexpected and in_ci:
        line += " A skip for a reason that is not in EXPECTED_SKIPS of tests/conftest.py fails a run with CI set."
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    result = yield
    reporter.ensure_newline()
    reporter.write_line(line, red=bool(unexpected and in_ci))
    return result


def told_of_skips(reports) -> tuple[str, bool]:
    """One line on the tests and files skipped, by reason, and whether any reason is unexpected."""
    number = Counter(map(_reason, reports)).most_common()
    if not number:
        return "Skipped: nothing.", False
    unexpected = [reason for reason, _ in number if not any(re.match(known, reason) for known in EXPECTED_SKIPS)]
    told = [f"{count} because {reason}" + " (UNEXPECTED)" * (reason in unexpected) for reason, count in number]
    return f"Skipped: {'; '.join(told)}.", bool(unexpected)


def _reason(report) -> str:
    """Of a report that pytest.skip, importorskip or a mark made; an xdist worker sends the triple as a list or tuple."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
    return " ".join(text.removeprefix("Skipped: ").split())


def pytest_unconfigure(config):
    if hasattr(config, "compiled"):
        shutil.rmtree(config.compiled, ignore_errors=True)


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish():
    """What was imported stays, and need not be looked through again and again while JAX traces: 3 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures: most of what a file compiles may be for one of them."""
    import jax

    names = {item.path.name, f"{item.path.parent.name}/{item.path.name}"}
    few = bool(names & BARELY_OPTIMISED) and item.originalname not in OPTIMISED
    barely = "MASSMAP_TEST_XLA" in os.environ and few
    jax.config.update("jax_disable_most_optimizations", barely)
    if item.path != _begun.get("file"):
        _begun["file"] = item.path
        many = item.path.name in small_chunks.OF_MANY
        small_chunks.compute(small_chunks.MANY if many else small_chunks.FEW)
        compiled_code.drop_what_is_too_much()
    _forget_what_was_lowered()


def _forget_what_was_lowered():
    """Drop the MLIR modules of what is compiled already; the compiled code stays.

    JAX keeps 2048 of them: with each in an MLIR context of its own, as without `share_a_context`, a worker held 3 GB more,
    and a small function took 56 ms of compiling instead of 25. JAX has no public name for these two caches, and a
    version that names them otherwise only takes longer.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import pjit
        from jax._src.interpreters import pxla

        pjit._pjit_lower.cache_clear()
        pxla._cached_lowering_to_hlo.cache_clear()


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Folder of public catalogues (see docs/development.md, Tests); skips where it is absent."""
    folder = Path(os.environ.get("MASSMAP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"public catalogues not found at {folder}; set MASSMAP_TEST_DATA")
    return folder
