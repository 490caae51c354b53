#!/usr/bin/env bash
# Reconvert every week on the Hub's own machines: run this once, logged in, with the name of an image that was built from
# the Containerfile and pushed where the Hub can pull it. What was built is kept in a bucket, or everything is made again.
set -euo pipefail
image=${1:?usage: docs/deploy/hf-jobs.sh IMAGE BUCKET [--dry-run]} bucket=${2:?name a bucket, as OWNER/NAME}
shift 2
.venv/bin/hf jobs scheduled run --name reconvert --no-concurrency --flavor cpu-performance --timeout 6h \
    --secrets HF_TOKEN --env HF_HUB_DISABLE_TELEMETRY=1 --volume "hf://buckets/$bucket:/build:rw" "$@" \
    @weekly "$image" .venv/bin/python -m reconvert recipes/gpt-2-70m.toml --pr --build /build
