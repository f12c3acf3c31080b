"""`python -m tests.quality`."""

import sys

from tests.quality.run import main

sys.exit(main())
