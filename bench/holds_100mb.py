"""The web app of http_app.py that holds 100 MB of data that are neither zero nor alike. Port from the argument (8000)."""
import random

data = random.Random(1).randbytes(100 << 20)

import http_app  # noqa: E402,F401  (serves for ever)
