"""``python -m humannorm`` is the command ``humannorm``."""

from __future__ import annotations

import sys

from humannorm.cli import main

sys.exit(main())
