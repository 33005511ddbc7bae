"""The embedded survey: a small synthetic sky with lenses in it, and a network that finds them."""

from survey_scan.demo.recall import Recovery, recovery

__all__ = ["Recovery", "recovery"]
