"""python -m reconvert.bound PARENT STAGE ARGUMENT...: becomes `python -m STAGE ...`, killed when its parent dies.

A stage that outlived a killed run would write into the build directory beside the next one, which the run's own lock,
gone with the run, no longer keeps out. The kernel can see to it, and remembers across exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from pipeline.errors import INTERRUPTED

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Never returns: this program is replaced by the stage, or ends because its parent has."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the call above
        raise SystemExit(INTERRUPTED)
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
