#!/usr/bin/env bash
# ctl.sh start|stop|info PLUGIN: starts or ends the proxy pair of a plug-in, or says what it can do. `start` and
# `info` answer with JSON.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -f "$rig/plugins/${2:-}.sh" ] || { echo "no plug-in ${2:-}; there are: $(cd "$rig/plugins" && echo *.sh)" >&2; exit 2; }
. "$rig/plugins/$2.sh"
case $1 in
    start)
        rm -f "$RUN"/[ABF].log
        start_B && start_A && wait_port "$NS_C" "${HTTP_ADDR%:*}" "${HTTP_ADDR##*:}" || exit 1
        printf '{"http":"%s","bulk":"%s","hold":"%s","h2":"%s","grpc":"%s","table":"%s","changes":"%s"}\n' \
            "$HTTP_ADDR" "$BULK_ADDR" "$HOLD_ADDR" "$H2_ADDR" "$GRPC_ADDR" "$TABLE_ADDR" "$CHANGES"
        ;;
    stop) kill_role A; kill_role B; kill_role F; stop_extra ;;
    info) printf '{"caps":"%s","desc":"%s"}\n' "$CAPS" "$DESC" ;;
    *) echo "usage: ctl.sh start|stop|info PLUGIN" >&2; exit 2 ;;
esac
