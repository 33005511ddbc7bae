"""The parts in C. They are optional: where they were not built, numpy and astropy do the same, in more time.

``pip install`` builds them where there is a C compiler, ``pip install -e .`` in a checkout.
"""

import ctypes
import importlib.util
from functools import cache


@cache
def find(module: str, *functions: str) -> ctypes.CDLL | None:
    """The functions of one part; Python's lock is free while they run.

    Parameters
    ----------
    module : str
        Its name, such as ``survey_scan.imaging._native``.
    functions : str
        What it has to have.

    Returns
    -------
    CDLL or None
        None where it was not built, or built from another version.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    library = ctypes.CDLL(found.origin)
    return library if all(hasattr(library, name) for name in functions) else None
