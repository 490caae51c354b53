"""python -m tests.hub [--port N] [--data DIR]: a Hub on this machine, to rehearse a publication."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import command
from pipeline.command import say
from pipeline.errors import PASSED, RecipeError


def main(argv: Sequence[str] | None) -> int:
    """Serve until interrupted. The environment that leads the Hub's client here is on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A Hub on this machine.")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port on 127.0.0.1 (any that is free)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep repositories here (a temporary directory)")
    arguments = parser.parse_args(argv)
    if arguments.data is not None and arguments.data.exists() and not arguments.data.is_dir():
        raise RecipeError(f"{arguments.data} is no directory", where="--data", hint="name a directory, or leave it out")

    import uvicorn  # after parsing, so that --help is instant

    from publish.loopback import ADDRESS, listen
    from tests.hub import access
    from tests.hub.app import application
    from tests.hub.store import Store

    with contextlib.ExitStack() as stack:
        directory = arguments.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
        app = application(Store(directory))
        listening = stack.enter_context(listen(arguments.port))
        port = listening.getsockname()[1]
        say(f"repositories of {access.OWNER}/ below {directory}; stop with Ctrl-C; then, in another shell:")
        # Without Xet, which this Hub does not speak; `publish` goes without by itself.
        print(f"export HF_ENDPOINT=http://{ADDRESS}:{port} HF_TOKEN={access.WRITE} HF_HUB_DISABLE_XET=1", flush=True)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=3600,  # one closed just as the client sends is a fault that nobody asked for
        )
        uvicorn.Server(settings).run(sockets=[listening])
    return PASSED


if __name__ == "__main__":
    raise SystemExit(command.run(main))
