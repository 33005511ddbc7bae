"""Whether the nodes of a cluster can do what they are for: see the files, have the GPUs."""

from pathlib import Path
from typing import TYPE_CHECKING

from survey_scan.cluster import worker
from survey_scan.config import Config
from survey_scan.errors import ResourceError
from survey_scan.imaging.remote import is_remote
from survey_scan.layout import RunDirectory

if TYPE_CHECKING:
    from distributed import Client


def check(config: Config, run: RunDirectory, client: "Client") -> None:
    """Refuse a cluster with a worker that does not see the images, the network or the run directory, or lacks its GPU.

    Parameters
    ----------
    config : Config
        With the paths.
    run : RunDirectory
        Where workers write.
    client : Client
        Of the cluster.

    Raises
    ------
    ResourceError
        Naming the hosts and what they lack.
    """
    on_disk = config.images.files and not is_remote(config.images.files)
    paths = [str(run), *([_fixed_part(config.images.files)] if on_disk else [])]
    paths += [model.path for model in config.networks.values() if model.path != "loopback"]
    lacking: dict[str, set[str]] = {}
    for host, missing in client.run(worker.missing, paths).values():
        for path in missing:
            lacking.setdefault(path, set()).add(host)
    if lacking:
        lines = [f"{_hosts(hosts)} see{'s' * (len(hosts) == 1)} no {path}" for path, hosts in lacking.items()]
        raise ResourceError(
            f"{'; '.join(lines)}. Put the files where every node of the cluster sees them (a shared file system), "
            "mount it in the container, or leave these nodes out (sbatch --exclude)."
        )
    if config.backend is not None:
        problems = {host: text for host, text in client.run(worker.gpu_problem, config.backend).values() if text}
        if problems:
            raise ResourceError(f"{_hosts(set(problems))}: {next(iter(problems.values()))}")


def _fixed_part(template: str) -> str:
    """The folder that a template of file names stands in, before anything of it varies."""
    fixed = Path(template.split("{")[0].split("*")[0] + "x").parent
    return str(fixed)


def _hosts(hosts: set[str]) -> str:
    names = sorted(hosts)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
