"""A scan seen while it runs: what its driver counts, what to make of it, and where it is shown.

``tally`` counts (a ``stage``'s partitions, a pool's time with a ``meter``, logits in ``bins``) and gives snapshots;
``verdict`` says what the rates mean for the cluster; ``scheduler`` shows a snapshot as a page and as metrics on the
Dask scheduler's dashboard, ``terminal`` on a terminal.
"""
