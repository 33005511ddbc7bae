"""report.html: all of a scan on one page that needs nothing beside it.

``facts`` are read from the run directory, ``figures`` are drawn of them, and ``page.html`` holds both.
"""

from survey_scan.report.write import write

__all__ = ["write"]
