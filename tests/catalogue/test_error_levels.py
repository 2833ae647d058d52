"""Errors of 90 % confidence, 2 sigma or an FWHM are no standard deviations: refused by name, told by description."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Column, Table

from massmap_jax.catalogue.error_levels import level_in
from massmap_jax.catalogue.read import read_catalogue
from massmap_jax.catalogue.units import unit_in_name
from massmap_jax.errors import MassmapError

LUM = np.array([1.0, 2.1, 3.3, 0.7, 5.2])


def table(*errors, description=None):
    found = Table({"z": np.linspace(0.1, 0.5, 5), "L500": LUM})
    for name in errors:
        found[name] = Column(0.1 * LUM, description=description)
    return found


@pytest.mark.parametrize(
    ("name", "sigmas"),
    [
        ("e_L_90", 1.645),
        ("L500_err90", 1.645),
        ("Lx_err_90pc", 1.645),
        ("err (90%)", 1.645),
        ("L500_90%_cl", 1.645),
        ("errLx_90conf", 1.645),
        ("err_70pc", 1.0364),
        ("L500_90_INT", 1.645),
        ("e_L_95", 1.96),
        ("e_L_2sig", 2.0),
        ("L 3-sigma", 3.0),
        ("L500_fwhm", 2.355),
        ("L500FWHM", 2.355),
        ("L500_q95", 1.645),
        ("L500_p05", 1.645),
        ("q975", 1.96),
    ],
)
def test_names_of_errors_that_are_no_standard_deviation(name, sigmas):
    assert level_in(name, is_name=True).sigmas == pytest.approx(sigmas, abs=1e-3)
    with pytest.raises(MassmapError, match=r"is by its name .*divide the lengths of its bars by") as told:
        read_catalogue(table(name), lum="L500", sigma=name, sigma_kind="linear")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "e_L500",
            "e_L_68",
            "e_L_h_70",
            "L500_err",
            "sigma_L",
            "e_L200",
            "L_05_2_sigma",
            "Lx_0.5-2_sig",
            "err_1sig",
            "e_L90",
            "q16",
        ),
        *("L500_q84", "e_M500", "sig_05_2", "L_0.1-2.4keV_err", "err_1995", "lx_err_1sigma", "ERR_L_0_2", "e_L2500"),
    ],
)
def test_names_that_say_nothing_of_it(name):
    assert level_in(name, is_name=True) is None
    assert read_catalogue(table(name), lum="L500", sigma=name, sigma_kind="linear").usable.all()


@pytest.mark.parametrize("way", ["memory", "fits", "votable", "ecsv", "comment"])
def test_a_description_is_told(tmp_path, way):
    """FITS files describe columns by TCOMM or in the comment of TTYPE."""
    told = "Error on L500 (90% confidence)"
    source = table("e_L500", description=None if way == "comment" else told)
    if way == "comment":
        source.write(tmp_path / "a.fits")
        with fits.open(tmp_path / "a.fits", mode="update") as file:
            file[1].header.comments["TTYPE3"] = told
        source = tmp_path / "a.fits"
    elif way != "memory":
        path = tmp_path / f"a.{ {'fits': 'fits', 'votable': 'xml', 'ecsv': 'ecsv'}[way] }"
        source.write(path, format={"fits": "fits", "votable": "votable", "ecsv": "ascii.ecsv"}[way])
        source = path
    notes = read_catalogue(source, lum="L500", sigma="e_L500", sigma_kind="linear").notes
    assert [note for note in notes if "90% confidence" in note and "divide it by 1.6449" in note]
    plain = read_catalogue(table("e_L500", description="1-sigma error on L500"), lum="L500", sigma_kind="linear")
    assert not any("confidence" in note or "described" in note for note in plain.notes)


@pytest.mark.parametrize(
    ("plus", "minus", "swapped"),
    [
        ("e_L500", "E_L500", True),
        ("L_err_lo", "L_err_hi", True),
        ("L500_minus", "L500_plus", True),
        ("errLow", "errUp", True),
        ("E_L500", "e_L500", False),
        ("e_L500_up", "e_L500_lo", False),
        ("a", "b", False),
        ("e_L_hi", "b", False),
    ],
)
def test_bars_that_are_interchanged_by_their_names(plus, minus, swapped):
    given = {"lum": "L500", "sigma_plus": plus, "sigma_minus": minus, "sigma_kind": "linear"}
    if not swapped:
        assert read_catalogue(table(plus, minus), **given).usable.all()
        return
    with pytest.raises(MassmapError, match="interchange them"):
        read_catalogue(table(plus, minus), **given)


def test_errors_of_redshifts_too():
    source = table("e_L500")
    source["z_err_90"] = 0.01
    with pytest.raises(MassmapError, match="redshift error column 'z_err_90'"):
        read_catalogue(
            source, lum="L500", sigma_kind="linear", z_err="z_err_90", z_contains="likelihood", lum_moves="yes"
        )


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("L500 E(z)^-1 (10^44 erg/s)", "10^44 erg/s"),
        ("h(z)^(-7/3) L [1e44 erg/s]", "1e44 erg/s"),
        ("Y_SZ (D_A^2) (Mpc2)", "Mpc2"),
        ("L500 (erg/(s))", "erg/(s)"),
        ("flux (erg/(s cm2))", "erg/(s cm2)"),
        ("M500 [1e14 Msun]", "1e14 Msun"),
        ("L(0.1-2.4)", ""),
        ("(erg/s)", ""),
        ("L500", ""),
        ("L500 ()", ""),
    ],
)
def test_the_unit_behind_a_name_that_has_brackets_itself(name, unit):
    assert unit_in_name(name) == unit


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        ("errors are at 90% confidence", "of 90 % confidence"),
        ("uncertainties: 2 sigma", "of 2 standard deviations"),
        ("errors are 1 sigma, 68 % confidence", ""),
        ("95 % of the clusters are confirmed", ""),
    ],
)
def test_a_comment_above_a_table_that_speaks_of_another_level_is_told(tmp_path, comment, told):
    path = tmp_path / "a.csv"
    rows = "".join(f"{z},{lum},{0.1 * lum}\n" for z, lum in zip(np.linspace(0.1, 0.5, 5), LUM, strict=True))
    path.write_text(f"# {comment}\nz,L500,e_L500\n{rows}")
    notes = read_catalogue(path, sigma="e_L500", sigma_kind="linear").notes
    found = [note for note in notes if "a comment above the table speaks of errors" in note]
    assert len(found) == bool(told) and all(told in note for note in found)


def test_a_name_with_the_mark_of_per_cent():
    source = Table({"z": np.linspace(0.1, 0.5, 5), "L500": LUM, "Err%": np.full(5, 8.0) + 0.1 * LUM})
    catalogue = read_catalogue(source, sigma="Err%")
    np.testing.assert_allclose(catalogue.sigma_ln_lum, np.arctanh(source["Err%"] / 100), rtol=1e-9)
