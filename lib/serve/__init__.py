"""The service: notebook 09 behind `POST /recommend`."""

import sys

sys.modules.setdefault("debugpy", None)  # ipykernel would import the debugger: 7 MB of each kernel
