"""A Hub on this machine: publications are rehearsed and tested against it with the real client over HTTP."""
