"""Grading candidates by eye: a local web page, grades on disk event by event, and what several graders found together."""
