#!/bin/sh
# The cheapest MCP server there is: about a millisecond to start, so that a thousand sessions cost the test little.
#
#   tiny.sh [SECONDS] [detached]
#
# SECONDS: how long it sleeps before it answers `initialize`. `detached`: it leaves a grandchild behind that has a
# session of its own and would sleep for an hour, as browsers do. It reads one message a line and looks at no more of
# it than `id` and `method`.
delay=${1:-0}
[ "${2:-}" = detached ] && setsid sleep 3600 </dev/null >/dev/null 2>&1 &
while IFS= read -r line; do
    case $line in
    *'"id"'*) ;;
    *) continue ;;
    esac
    id=${line#*\"id\"}
    id=${id#*:}
    id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*)
        [ "$delay" = 0 ] || sleep "$delay"
        result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"tiny","version":"1"}}'
        ;;
    *'"tools/list"'*) result='{"tools":[{"name":"pid","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*) result='{"content":[{"type":"text","text":"'$$'"}]}' ;;
    *) result='{}' ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
