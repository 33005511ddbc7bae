"""Runs a scan on Dask: tasks, what is finished, the cluster, signals, the order of things."""
