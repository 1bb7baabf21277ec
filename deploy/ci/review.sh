#!/usr/bin/env bash
# Writes what a change of policy changes to the file REPORT, and exits with the code of
# stagedoor diff: 0 for nothing to decide, 1 for a change of FAIL_ON, 2 where it could not run.
#
# BASE is the revision to compare with, POLICY the bundle's folder, INVENTORY an optional
# folder with permissions, people and entities.
set -uo pipefail

: "${BASE:?is the revision to compare with}"
: "${POLICY:=policy}"
: "${REPORT:=review.md}"
: "${FAIL_ON:=breaks,wider,other}"

arguments=(--fail-on "$FAIL_ON" --format markdown)
if [ -n "${INVENTORY:-}" ]; then
	arguments+=(--inventory "$INVENTORY")
fi
stagedoor diff "git:$BASE:$POLICY" "$POLICY" "${arguments[@]}" >"$REPORT"
code=$?
if [ "$code" -eq 2 ]; then
	echo "stagedoor diff could not run" >"$REPORT"
fi
cat "$REPORT"
exit "$code"
