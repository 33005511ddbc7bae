"""The parts in C, for those who can build them: see survey_scan/c_library.py. All else is in pyproject.toml."""

import platform

from setuptools import Extension, setup

#: Without fused multiply-adds, pixels have the bits that astropy's own build gives on this processor.
OPTIONS = ["-O3", "-ffp-contract=off"]

PARTS = [
    Extension(
        f"survey_scan.{name}", [f"survey_scan/{name.replace('.', '/')}.c"], extra_compile_args=OPTIONS, optional=True
    )
    for name in ("imaging._native", "store._quantise")
]

setup(ext_modules=PARTS if platform.machine() in ("x86_64", "AMD64") else [])
