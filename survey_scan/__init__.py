"""Find strong gravitational lenses in a survey: catalogue, selection, plan, cutouts, scores, ranking."""

__version__ = "0.1.0"
