"""Run tutorials of docs/ as they are printed, figures and all, and make their pictures anew.

    python scripts/tutorial_pictures.py                       # all of them: ten minutes on two cores
    python scripts/tutorial_pictures.py richness satellites   # docs/tutorial_richness.png, docs/tutorial_satellites.png

Each page runs in a folder of its own: blocks of Python one after the other, and every `massmap-jax` command.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pandas as pd

import massmap_jax as mm
from massmap_jax.figures.style import new_figure, settle, styled

DOCS = Path(__file__).resolve().parent.parent / "docs"
# Commands that are set off by four blanks run as those in blocks do.
COMMAND = re.compile(r"^    (massmap-jax (?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLUE, ORANGE, SKY, GREY = "#0072B2", "#E69F00", "#56B4E9", "0.35"


def run_page(text: str) -> dict:
    """Run a page in the working folder, and return the names that its Python leaves behind."""
    found = [(m.start(), m[1], m[2]) for m in BLOCK.finditer(text)]
    found += [(m.start(), "bash", m[1]) for m in COMMAND.finditer(text)]
    names: dict = {}
    programs = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for _, kind, code in sorted(found):
        if kind == "python":
            exec(code, names)
        else:
            # Some commands of the pages are shown for the sentence with which they are refused.
            subprocess.run(["bash", "-c", code], env=programs, check=False)
    return names


def of_run(path: str):
    """Take a figure that the page's own run has drawn."""
    return lambda names, out: shutil.copy(path, out)


@styled
def draw_valley(names: dict, out: Path) -> None:
    """The likelihood of luminosities in alpha1 and sigma8, and draws of the fits with and without lensing."""
    figure = new_figure(5.0, 3.6)
    ax = figure.subplots()
    levels, colours = [-3.0, -1.15, 0.1], ["#cfe3f2", "#8fbfe0"]
    ax.contourf(names["alpha1"], names["wanted"], names["surface"], levels=levels, colors=colours)
    handles = [matplotlib.patches.Patch(color=colours[1], label="68 and 95 % of the luminosities")]
    for fit, colour, label in (
        ("abundance", GREY, "fit to the luminosities"),
        ("fit", "#D55E00", "and to 80 lensing masses"),
    ):
        draws = pd.read_csv(f"{fit}/relation.csv")[:250]
        handles += ax.plot(draws.alpha1, draws.sigma8, ".", color=colour, label=label)
    handles += ax.plot(0.0, 0.81, "+", color="black", ms=14, mew=2, label="truth")
    chain = pd.read_csv("chain.csv").sigma8
    for side in (-1, 1):
        line = ax.axhline(chain.mean() + side * chain.std(), color="0.2", ls="--", lw=1.2, label="chain, mean ± sd")
    ax.legend(handles=[*handles, line], loc="upper right", frameon=False)
    ax.set(xlim=(-1.2, 2.0), ylim=(0.65, 0.97), ylabel=r"$\sigma_8$")
    ax.set_xlabel(r"$\alpha_1$: $\ln L$ at $3\times10^{14}$ M$_\odot$ and $z = 0$")
    settle(figure)
    figure.savefig(out, dpi=150)


@styled
def draw_host(names: dict, out: Path) -> None:
    """What is known of the host of one satellite: from its luminosity, its flag, and the group it is in."""
    galaxies, law, satellites, prior = (names[n] for n in ("galaxies", "law", "satellites", "prior"))
    size = galaxies.groupby("group").id.transform("size")
    complete = galaxies.groupby("group").central.transform("max") == 1
    row = int(np.flatnonzero((size == 3) & complete & (galaxies.central == 0) & (galaxies.flag == 0))[0])
    group = galaxies[galaxies.group == galaxies.group[row]]
    limit = mm.FluxLimit(names["limit"])

    def draws(rows, place, **known):
        one = mm.HaloCatalogue.from_arrays(
            luminosity=rows.L_r.to_numpy(), redshift=rows.z.to_numpy(), sigma_ln_luminosity=names["sigma"]
        )
        hosts = mm.host_posterior(one, prior, law, satellites, selection=limit, **known)
        ln_mass, _ = hosts.sample(jax.random.key(1), 20_000)
        return ln_mass[place] / np.log(10)

    alone, place = galaxies.iloc[[row]], int(np.flatnonzero(group.index == row)[0])
    flag = mm.Membership.from_flags([0], purity=0.85)
    known = mm.Membership.from_groups(group.group.to_numpy(), group.central.to_numpy() == 1)
    figure = new_figure(5.0, 3.0)
    ax, bins = figure.subplots(), np.arange(11.4, 15.3, 0.1)
    for values, colour, label in (
        (draws(alone, 0), SKY, "nothing known"),
        (draws(alone, 0, membership=flag), ORANGE, "flagged as satellite, 85 % pure"),
        (draws(group, place, membership=known), BLUE, "group of 3, as its member"),
    ):
        ax.hist(values, bins, density=True, histtype="step", lw=2, color=colour, label=label)
    truth = names["halos"][galaxies.group[row]] / np.log(10)
    ax.axvline(truth, color="black", ls=":", label="truth")
    ax.legend(frameon=False)
    ax.set(xlim=(bins[0], bins[-1]), ylabel="probability density [1/dex]")
    ax.set_xlabel(r"$\log_{10}(M_{\rm 180m}/{\rm M}_\odot)$ of the host")
    settle(figure)
    figure.savefig(out, dpi=150)


PICTURES = {
    "xray": of_run("masses/figures/posterior_panel.png"),
    "richness": of_run("result/figures/map_panels.png"),
    "weak_lensing": of_run("result/figures/calibration.png"),
    "cosmology": draw_valley,
    "satellites": draw_host,
}


def main(wanted) -> None:
    """Make the pictures of some tutorials."""
    for name in wanted or PICTURES:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            names = run_page((DOCS / f"tutorial_{name}.md").read_text(encoding="utf-8"))
            PICTURES[name](names, DOCS / f"tutorial_{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
