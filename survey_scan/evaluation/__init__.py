"""How good a model is: its scores of objects whose nature is known, against that nature.

``tables`` reads, ``sample`` matches; ``curve``, ``metrics``, ``purity``, ``completeness``, ``calibration``, ``kinds`` and
``comparison`` are pure functions of arrays, with ``intervals`` under them; ``summary`` puts them together as the content of
evaluation.json; ``words``, ``picture`` and ``markdown`` show that; ``command`` is ``survey_scan evaluate``.
"""
