"""`python -m tests.chaos`: the campaign of deterministic fault simulation."""

import sys

from tests.chaos.campaign import main

sys.exit(main())
