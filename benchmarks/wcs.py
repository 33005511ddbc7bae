"""Positions a second from sky to pixel, on one core, by kind of projection; a loop over objects beside it.

    python benchmarks/wcs.py [--positions 1000000] [--rounds 5]        prints JSON; about half a minute

Each kind is a tile of 10,000 x 10,000 pixels of 0.263 arcsec. ``error`` is the largest distance, in pixels, of a position
that went to the sky and came back. ``SkyCoord`` is ``wcs.world_to_pixel(SkyCoord(ra, dec))`` an object, over a subset.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable

from survey_scan.imaging.wcs import needs_tables, pixel_to_world, read_wcs, wcs_cards, with_tables, world_to_pixel

SIDE = 10_000
LOOP = 200


def header(projection: str) -> fits.Header:
    cards = fits.Header()
    for axis, (name, value) in enumerate((("RA", 52.0), ("DEC", -28.0)), start=1):
        cards[f"CTYPE{axis}"] = f"{name}{'---' if axis == 1 else '--'}{projection}"
        cards[f"CRVAL{axis}"], cards[f"CRPIX{axis}"] = value, SIDE / 2 + 0.5
    scale = 0.263 / 3600
    cards["CD1_1"], cards["CD1_2"], cards["CD2_1"], cards["CD2_2"] = -scale, 0.0, 0.0, scale
    return cards


def tan() -> str:
    return wcs_cards(header("TAN").tostring())


def tpv() -> str:
    cards = header("TPV")
    for axis in (1, 2):
        for term in (0, 1, 2, *range(4, 11)):  # as of a DECam exposure
            cards[f"PV{axis}_{term}"] = 1.0 if term == 1 else 1e-4
    return wcs_cards(cards.tostring())


def sip() -> str:
    cards = header("TAN-SIP")
    for axis in "AB":
        cards[f"{axis}_ORDER"] = 3
        for p in range(4):
            for q in range(4 - p):
                if p + q > 1:
                    cards[f"{axis}_{p}_{q}"] = 1e-7 if p + q == 2 else 1e-11
    return wcs_cards(cards.tostring())


def lookup() -> str:
    wcs = WCS(header("TAN"))
    y, x = np.mgrid[0:64, 0:64] / 20
    step = SIDE / 63
    table = DistortionLookupTable(np.sin(x + y).astype(np.float32), (1, 1), (1, 1), (step, step))
    wcs.cpdis1 = wcs.cpdis2 = table
    hdus = wcs.to_fits(relax=True)
    data = b"".join(hdu.header.tostring().encode() + padded(hdu.data) for hdu in hdus[1:])
    cards = wcs_cards(hdus[0].header.tostring())
    assert needs_tables(cards)
    return with_tables(cards, data.decode("latin-1"))


def padded(values: np.ndarray) -> bytes:
    data = values.astype(">f4").tobytes()
    return data + bytes(-len(data) % 2880)


KINDS: dict[str, Callable[[], str]] = {"TAN": tan, "TPV": tpv, "SIP": sip, "lookup": lookup}


def measure(cards: str, positions: int, rounds: int) -> dict[str, float]:
    x, y = np.random.default_rng(0).uniform(0, SIDE, (2, positions))
    ra, dec = pixel_to_world(cards, x, y)
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        found = world_to_pixel(cards, ra, dec)
        taken.append(time.process_time() - start)
    wcs = read_wcs(cards)
    start = time.process_time()
    for i in range(LOOP):
        wcs.world_to_pixel(SkyCoord(ra[i], dec[i], unit=units.deg))
    one = (time.process_time() - start) / LOOP
    rate = positions / statistics.median(taken)
    return {
        "positions_per_second": round(rate),
        "error_pixels": float(np.hypot(found[0] - x, found[1] - y).max()),
        "times_SkyCoord": round(rate * one),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    kinds = {name: measure(make(), arguments.positions, arguments.rounds) for name, make in KINDS.items()}
    json.dump({"positions": arguments.positions, "rounds": arguments.rounds, "kinds": kinds}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
