"""Imported first by the process that kernels are forked from: what is sent to the gateway's group is not meant for it.

A Ctrl-C, or the SIGTERM of `timeout`, would else end it and with it the kernels whose requests are to be finished.
"""

import os

os.setsid()
