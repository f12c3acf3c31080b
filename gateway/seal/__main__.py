"""`python -m gateway.seal`: the process that a `SealerProcess` starts."""

import sys

from gateway.seal.process import main

sys.exit(main())
