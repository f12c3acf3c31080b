"""Who looks for names of people, places and organizations: models in processes of their own, behind the filters' `Judge`.

serve.py is the process that loads the models once and forks one child for each core it may use; pool.py asks it. The
gateway's workers share one such process: its socket lies in a folder that only this user can open. A segment is judged
once and remembered by a keyed digest, so a history that is sent again costs nothing.
"""

from gateway.names.pool import NamePool, Pool
from gateway.names.processes import NameProcesses, Processes, hello_of, missing

__all__ = ["NamePool", "NameProcesses", "Pool", "Processes", "hello_of", "missing"]
