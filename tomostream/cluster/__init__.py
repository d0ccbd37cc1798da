"""Run tasks in this process, in local processes, on a running Dask scheduler, or in a queue's jobs: the same functions.

A *task* is a small picklable value that says all that its function needs (paths, a box, settings); the function reads and writes the
stores itself and returns a small result.  So nothing large travels, and a task that is lost with its worker can simply be run again.

    settings    what the user asked for                         worker_batch   what a worker does with a batch of tasks
    pools       one after the other, or in threads              worker_cache   what a worker keeps in memory (the model)
    dask_pool   on workers: few in flight, batches, faults      security       TLS, or a warning
    queue       what a queue must do; each is a plug-in         pool_opening   starts or joins the one that was asked for
    queues      those that are installed                        job_keeper     replaces workers' jobs as they end
    job         one long command as a job of its own            local, slurm   our queues

Limits: workers must see the client's files under the same paths.  A scheduler that dies ends the stage; the same command resumes it.
"""

from tomostream.cluster.pool_opening import open_pool
from tomostream.cluster.pools import Pool, guarded
from tomostream.cluster.queues import checked, is_elsewhere, task_threads
from tomostream.cluster.resources import Resources
from tomostream.cluster.worker_cache import resident

__all__ = ["Pool", "Resources", "checked", "guarded", "is_elsewhere", "open_pool", "resident", "task_threads"]
