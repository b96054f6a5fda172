"""The service: notebook 08 behind `POST /recommend`."""

import sys

# Libraries would import these packages, but nothing here uses them: a grammar of international addresses, which takes
# jsonschema 1.5 s, and a debugger, which takes 7 MB of each kernel.
for package in ("rfc3987_syntax", "debugpy"):
    sys.modules.setdefault(package, None)
