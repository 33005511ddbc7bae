"""Where a scan runs: profiles, workers, Slurm."""
