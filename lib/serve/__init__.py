"""The service: notebook 08 behind `POST /recommend`."""

import sys

sys.modules.setdefault("debugpy", None)  # ipykernel would import the debugger: 7 MB of each kernel
