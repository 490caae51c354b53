"""One file or folder per runtime; its name is the runtime's in recipes and reports. Form: verify/interop/runtime.py."""
