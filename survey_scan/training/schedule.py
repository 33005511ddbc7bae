"""The learning rate, step by step."""

import math

from survey_scan.training.config import Schedule


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The learning rate of a step.

    Parameters
    ----------
    schedule : Schedule
    step : int
        From 0.
    steps : int
        Of an epoch.
    """
    whole, warm = schedule.epochs * steps, schedule.warm_up * steps
    if step < warm:
        return schedule.rate * (step + 1) / (warm + 1)
    if schedule.decay == "cosine":
        part = (step - warm) / max(whole - warm, 1)
        return schedule.rate * (schedule.end + (1 - schedule.end) * 0.5 * (1 + math.cos(math.pi * part)))
    if schedule.decay == "drops":
        passed = sum(step >= round(drop * whole if drop < 1 else drop * steps) for drop in schedule.drops)
        return schedule.rate * schedule.factor**passed
    return schedule.rate


def words(schedule: Schedule) -> str:
    """In words."""
    warm = f", after {schedule.warm_up:g} epochs of warm-up" if schedule.warm_up else ""
    if schedule.decay == "cosine":
        fall = f", then along a cosine to {schedule.rate * schedule.end:g}"
    elif schedule.decay == "drops":
        ends = [math.ceil(drop * schedule.epochs - 1e-6) if drop < 1 else drop for drop in schedule.drops]
        fall = f", times {schedule.factor:g} after epoch {', '.join(f'{end:g}' for end in ends)}"
    else:
        fall = ""
    return f"{schedule.epochs} epochs in batches of {schedule.batch}, {schedule.optimizer} at {schedule.rate:g}{warm}{fall}"
