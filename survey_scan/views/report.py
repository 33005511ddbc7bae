"""What ``status``, ``inspect`` and ``verify`` found, in words."""

from collections.abc import Callable
from typing import Any

from survey_scan.engine import lock
from survey_scan.schema import Status

Say = Callable[[str], None]

#: Tile problems printed at the end; all are in the records and in ``status --json``.
SHOWN_PROBLEMS = 10


def status(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.overview.status` found."""
    say(f"{found['run']}: {found['state']}" + (f" ({lock.describe(found['driver'])})" if found["driver"] else ""))
    if not found["stages"]:
        say("not planned yet")
        return
    counts = found["counts"]
    say(f"catalogue   {counts['catalogue']:,}, selected {counts['selected']:,}")
    for stage, facts in found["stages"].items():
        why = ", ".join(f"{what} {n:,}" for what, n in facts["reasons"].items())
        say(f"{stage:<11} {facts['done']:,} of {facts['partitions']:,} partitions" + (f", to do: {why}" if why else ""))
    flagged = ", ".join(f"{Status(int(code)).reason} {n:,}" for code, n in counts["cutouts_flagged"].items())
    cut = counts["cutouts_ok"] + sum(counts["cutouts_flagged"].values())
    kept = f"; pixels kept of {counts['kept']:,}" if counts["kept"] != cut else ""
    say(f"cutouts     {counts['cutouts_ok']:,} ok" + (f", flagged: {flagged}" if flagged else "") + kept)
    aside = f", {counts['set_aside']:,} of these set aside by the cascade" if counts["set_aside"] else ""
    say(f"targets     {counts['scored']:,} scored, {counts['unscored']:,} not{aside}")
    say(f"candidates  {counts['candidates']:,}")
    for line in found["problems"]:
        say(f"tile        {line}")


def target(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.overview.inspect` found."""
    for name, value in found["target"].items():
        say(f"{name:<12} {value}")
    kept = found["cutout"] is None or found["cutout"]["kept"]
    say(f"{'row':<12} {found['row']}{' of cutouts.zarr' if kept else ''}, partition {found['partition']}")
    if found["psf"]:
        say(f"{'PSF FWHM':<12} " + ", ".join(f"{band} {width:.2f}" for band, width in found["psf"].items()) + " arcsec")
    cutout, score = found["cutout"], found["score"]
    say(
        f"{'cutout':<12} "
        + (cutout["reason"] if cutout else "not cut yet")
        + ("" if kept else "; its pixels were not kept")
    )
    for band, fraction in (cutout["bad_fraction"] if cutout else {}).items():
        say(f"{'  ' + band:<12} {fraction:.1%} bad pixels")
    for name, logit in (score["logits"] if score else {}).items():
        say(f"{'  ' + name:<12} {'not asked' if logit is None else f'logit {logit:.4f}'}")
    if score is None or score["logit"] is None:
        say(f"{'score':<12} none: " + (score["reason"] if score else "not scored yet"))
    else:
        say(f"{'score':<12} {score['score']:.6f} (logit {score['logit']:.4f})")
    say(f"{'rank':<12} {found['rank'] or 'not a candidate'}")


def verified(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.verify.verify` found."""
    for line in found["problems"]:
        say(line)
    say(
        f"{found['run']}: {found['partitions']:,} partitions, cutouts of {found['cutouts']:,} and scores of "
        f"{found['scores']:,} read again: " + ("all is well" if found["ok"] else f"{len(found['problems'])} problems")
    )
    if not found["ok"]:
        say(f"Mend with: survey_scan partition {found['run']} cutouts N (then scores N), and run again.")
