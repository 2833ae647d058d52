"""Several devices give the numbers of one: forced CPU devices, each number in a program of its own; `--device`."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import massmap_jax as mm
from massmap_jax import cli, devices
from massmap_jax.posterior import kernel as halos

PROGRAM = Path(__file__).with_name("on_devices.py")
COMMAND = Path(sys.executable).with_name("massmap-jax")


def run_program(command, **environment):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=600, env=os.environ | environment
    )


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Results by number of devices."""
    folder, found = tmp_path_factory.mktemp("devices"), {}
    for number, more in ((1, ["maps", "stream"]), (3, ["maps", "stream", "chains"])):
        ran = run_program([PROGRAM, number, folder / f"{number}.npz", *more])
        assert ran.returncode == 0, ran.stderr[-2000:]
        found[number] = dict(np.load(folder / f"{number}.npz"))
    return found


def test_same_numbers_as_on_one_device(computed):
    """On three, a number that divides neither the objects nor their chunks; `test_how_halos_are_split` has eight."""
    one, several = computed[1], computed[3]
    shared = one.keys() & several.keys()
    assert shared >= {
        "posterior.mean", "posterior.quantiles", "surface", "map.sd", "map.evidence", "stream.log10_mass_mean",
        "stream.map.MEAN", "stream.map.SD",
    }  # fmt: skip
    for name in shared:
        assert np.isfinite(one[name]).all(), name
        np.testing.assert_allclose(several[name], one[name], rtol=1e-12, err_msg=name)


def test_chains_of_three_devices_are_those_of_the_objects(computed):
    """Against the grid, since chains differ by rounding: an object given another's chains is several sd off."""
    found = computed[3]
    off = (found["chains.mean"] - found["posterior.mean"]) / found["posterior.sd"]
    assert np.abs(off).max() < 1
    shifted = (np.roll(found["chains.mean"], 1) - found["posterior.mean"]) / found["posterior.sd"]
    assert np.abs(shifted).max() > 2


SPLIT = """
import jax, numpy as np
from jax.sharding import PartitionSpec as P
from massmap_jax import cli, devices
from massmap_jax.likelihood.objects import Objects
from massmap_jax.likelihood.terms import TabulatedTerm
from massmap_jax.posterior import kernel as halos

@devices.over_halos("objects", "x", static=("power",), out={"sum": P(None, "halo"), "mean": devices.HALO})
def kernel(objects, x, scale, *, power):
    value = scale * x**power + objects.extra.ln_mass_nodes.sum() + objects.extra.log_likelihood[:, 0]
    return {"sum": value[None], "mean": x - x.mean()}

n = 16
table = TabulatedTerm(29 + np.arange(3.0), np.arange(3.0 * n).reshape(n, 3))
objects = Objects(*np.zeros((6, n)), extra=table)
x = np.arange(float(n))
found = kernel(objects, x, 2.0, power=2)
want = 2 * x**2 + 90 + 3 * x
np.testing.assert_array_equal(found["sum"], want[None])
assert len(found["sum"].sharding.device_set) == 8 and found["sum"].sharding.spec == P(None, "halo")
# Each device sees its own two halos only.
np.testing.assert_array_equal(found["mean"], np.tile([-0.5, 0.5], 8))
# Fifteen halos cannot be split evenly: one device takes them all.
short = kernel(objects.take(np.arange(15)), x[:15], 2.0, power=2)
np.testing.assert_array_equal(short["sum"], want[None, :15])
assert len(short["sum"].sharding.device_set) == 1
# A user who has chosen a device keeps it.
with jax.default_device(jax.devices()[3]):
    assert devices.count() == 1 and devices.describe() == {"platform": "cpu", "kind": "cpu", "count": 1}
    chosen = kernel(objects, x, 2.0, power=2)["sum"]
assert chosen.devices() == {jax.devices()[3]} and devices.count() == 8
with jax.default_device("cpu"):
    assert devices.count() == 1
# The rows of chunks: a multiple of the devices, and none twice in what comes back.
sizes = []
parts = list(halos.in_chunks(lambda rows: sizes.append(rows.size) or rows, np.arange(50), 2))
assert sizes == [16] * 4
np.testing.assert_array_equal(np.concatenate(parts), np.arange(50))
print("passed")
"""


def test_how_halos_are_split():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    ran = run_program(["-c", SPLIT], **environment)
    assert ran.stdout == "passed\n", ran.stderr[-2000:]


def test_a_chunk_starts_before_the_one_before_it_is_fetched():
    events = []

    class Output:
        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            events.append(f"fetch {self.number}")
            return np.array(self.number)

    def started():
        for number in range(3):
            events.append(f"start {number}")
            yield Output(number)

    assert [int(v) for v in devices.fetched(started())] == [0, 1, 2]
    assert events == ["start 0", "start 1", "fetch 0", "start 2", "fetch 1", "fetch 2"]


@pytest.mark.parametrize("number", [0, 1, 5])
def test_in_threads_does_everything_once(number):
    done = []
    devices.in_threads(done.append, range(number))
    assert sorted(done) == list(range(number))


def test_a_chunk_is_of_the_size_of_the_free_memory(monkeypatch):
    """On a GPU; every size gives the same answer (test_posterior.py)."""
    relation = mm.MassLuminosityRelation.preset_draws("bigmali2017", jax.random.key(2), 16)
    monkeypatch.setattr(halos, "_CHUNK", 48)
    assert halos.auto_chunk(relation) == 48, "a CPU does not say what is free"
    sizes = []
    for free in (0, 2**30, 2**33, 60 * 2**30):
        monkeypatch.setattr(devices, "free_bytes", lambda free=free: free)
        sizes.append(halos.auto_chunk(relation))
    assert sizes == [16, 2048, 16384, 65536]


def test_free_memory_is_that_of_the_fullest_device(monkeypatch):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    stats = [{"bytes_limit": 100, "bytes_in_use": 30}, {"bytes_limit": 100, "bytes_in_use": 60}]
    monkeypatch.setattr(devices, "local", lambda: list(map(Device, stats)))
    assert devices.free_bytes() == 40
    monkeypatch.setattr(devices, "local", lambda: list(map(Device, [*stats, None])))
    assert devices.free_bytes() is None


@pytest.mark.parametrize("command", ["run", "fit", "stream", "demo"])
def test_every_command_that_computes_has_the_option(command):
    made = {made.name or made.callback.__name__: made.callback for made in cli.app.registered_commands}
    assert inspect.signature(made[command]).parameters["device"].default == "auto"


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU here")
def test_no_gpu_is_one_sentence(tmp_path):
    ran = subprocess.run(
        [str(COMMAND), "demo", "--out", "demo", "--device", "gpu"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
    )
    assert ran.returncode == 2 and ran.stdout == ""
    assert ran.stderr.startswith("error: device 'gpu' is asked for, but JAX finds only cpu: use --device cpu")
    assert ran.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


CHOOSE = """
import jax
from massmap_jax.cli import start_jax
from massmap_jax.errors import MassmapError
try:
    start_jax("float32", "tpu")
except MassmapError as error:
    assert "device 'tpu' is not known: give auto, cpu or gpu" in str(error)
start_jax("float64", "cpu")
assert jax.config.jax_platforms == "cpu" and jax.default_backend() == "cpu"
print("passed")
"""


def test_cpu_is_chosen_before_jax_looks_for_another():
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    ran = subprocess.run([sys.executable, "-c", CHOOSE], capture_output=True, text=True, env=environment, timeout=600)
    assert ran.stdout == "passed\n", ran.stderr[-2000:]
