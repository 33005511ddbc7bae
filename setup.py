"""The part in C, for those who can build it: see survey_scan/imaging/native.py. All else is in pyproject.toml."""

import platform

from setuptools import Extension, setup

#: Without fused multiply-adds, pixels have the bits that astropy's own build gives on this processor.
NATIVE = Extension(
    "survey_scan.imaging._native",
    ["survey_scan/imaging/_native.c"],
    extra_compile_args=["-O3", "-ffp-contract=off"],
    optional=True,
)

setup(ext_modules=[NATIVE] if platform.machine() in ("x86_64", "AMD64") else [])
