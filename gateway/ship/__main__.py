"""`python -m gateway.ship`."""

from __future__ import annotations

import sys

from gateway.ship.process import main

sys.exit(main())
