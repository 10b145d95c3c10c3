#!/usr/bin/env bash
# timed.sh TITLE COMMAND...: runs the command and says how long it took.
title=$1
shift
echo "==> $title"
start=$EPOCHREALTIME
"$@"
status=$?
seconds=$(awk -v a="$EPOCHREALTIME" -v b="$start" 'BEGIN { printf "%.1f", a - b }')
if [ $status = 0 ]; then echo "==> $title: done in $seconds s"; else echo "==> $title: FAILED ($status) after $seconds s" >&2; fi
exit $status
