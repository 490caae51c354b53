"""Processors other than this machine's, by qemu-user: which there are, and what a Python there needs."""
