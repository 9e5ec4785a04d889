#!/bin/sh
# All end-to-end tests with real peers, in a size for CI (some minutes on two cores), against the release binaries.
#
#   tests/e2e/run.sh [NAME...]      all, or only those named: everything sse_clients python_clients storm playwright union limits leaks
#                               conformance conformance_client
#   SESSILE_E2E=full tests/e2e/run.sh      the sizes that the project promises: a storm of a minute, a thousand sessions
#   SESSILE_BIN=PATH                       another binary than target/release/sessile
#
# Each script can be run by itself; see the head of each. The last line is `N passed, N failed`. A script that fails without
# counting anything counts as one failure, and one that counts nothing and ends well as one success.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
SESSILE_PEERS_DIR=${SESSILE_PEERS_DIR:-$root/target/peers}
export SESSILE_PEERS_DIR
sessile=${SESSILE_BIN:-$root/target/release/sessile}
reference=$(dirname "$sessile")/reference-server
work=$(mktemp -d)
background=

# By the ids of what was started here, and of nothing else.
stop_background() {
    for pid in $background; do kill "$pid" 2>/dev/null; done
    for pid in $background; do wait "$pid" 2>/dev/null; done
    background=
}
trap 'stop_background; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

[ -x "$sessile" ] || { echo "no $sessile: run cargo build --release first" >&2; echo "0 passed, 1 failed"; exit 1; }
"$root/tests/peers/setup.sh" || { echo "0 passed, 1 failed"; exit 1; }

if [ "${SESSILE_E2E:-ci}" = full ]; then
    storm="--seconds 60" playwright="--rounds 30" leaks="--sessions 1000 --vanishing 200 --warm-up 200"
else
    storm="--seconds 10" playwright="--rounds 10" leaks="--sessions 300 --vanishing 60 --warm-up 100"
fi

passed=0
failed=0
summary=

# test NAME SECONDS COMMAND...: the limit is for what even the script's own clock cannot end.
test_() {
    name=$1 limit=$2
    shift 2
    echo "== $name"
    timeout -k 10 "$limit" "$@" >"$work/out" 2>&1
    status=$?
    counts=$(sed -n 's/^[a-z_]*: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/out" | tail -1)
    p=${counts% *} f=${counts#* }
    if [ -z "$counts" ]; then
        p=0 f=0
        if [ $status = 0 ]; then p=1; else f=1; fi
    elif [ $status != 0 ] && [ "$f" = 0 ]; then
        f=1
    fi
    if [ "$f" = 0 ]; then grep -v '^ok' "$work/out"; else tail -n 200 "$work/out"; fi
    [ $status = 124 ] && echo "it took longer than $limit s"
    passed=$((passed + p)) failed=$((failed + f))
    summary="$summary
$(printf '%-28s %4d passed %4d failed' "$name" "$p" "$f")"
}

wanted() {
    [ -z "$names" ] && return 0
    for one in $names; do [ "$one" = "$1" ] && return 0; done
    return 1
}
names=$*

if wanted everything; then
    for backend in stdio http sse; do
        test_ "everything on $backend" 300 node "$here/everything.mjs" --sessile "$sessile" --backend $backend
    done
fi
wanted sse_clients && test_ sse_clients 150 node "$here/sse_clients.mjs" --sessile "$sessile"
wanted python_clients && test_ python_clients 300 "$SESSILE_PEERS_DIR/venv/bin/python" "$here/python_clients.py" --sessile "$sessile"
# shellcheck disable=SC2086
wanted storm && test_ storm 300 node "$here/storm.mjs" --sessile "$sessile" $storm
# shellcheck disable=SC2086
wanted playwright && test_ playwright 400 node "$here/playwright.mjs" --sessile "$sessile" $playwright
wanted union && test_ union 300 node "$here/union.mjs" --sessile "$sessile"
wanted limits && test_ limits 120 python3 "$here/limits.py" --sessile "$sessile"
# shellcheck disable=SC2086
wanted leaks && test_ leaks 600 node "$here/leaks.mjs" --sessile "$sessile" $leaks

# The URL that sessile says, or nothing after ten seconds. `localhost`, because the DNS-rebinding scenario insists on it.
url_in() {
    for _ in $(seq 100); do
        url=$(sed -n 's|.*\(http://[^ ]*/mcp\).*|\1|p' "$1" | head -1 | sed 's|127\.0\.0\.1|localhost|')
        [ -n "$url" ] && { echo "$url"; return; }
        sleep 0.1
    done
}

free_port() {
    node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})'
}

# behind NAME TARGET...: sessile in front of TARGET must give the suites what the server itself at $direct gives them.
behind() {
    kind=$1
    shift
    "$sessile" serve --listen 127.0.0.1:0 "$@" >"$work/sessile-$kind.log" 2>&1 &
    background="$background $!"
    through=$(url_in "$work/sessile-$kind.log")
    for suite in $suites; do
        test_ "conformance $suite, $kind" 300 node "$here/conformance.mjs" --direct "$direct" --through "$through" --suite "$suite"
    done
}

conformance() {
    for mode in http sse; do
        # Of what is behind sessile, no stream ends to make its client poll. The suite hangs up itself after ten seconds, and
        # then the answer must be there for the one who comes back.
        port=$(free_port)
        "$reference" $mode --listen "127.0.0.1:$port" --late-ms 12000 >"$work/reference-$mode.log" 2>&1 &
        background="$background $!"
        [ $mode = http ] && http="http://127.0.0.1:$port/mcp" || sse="http://127.0.0.1:$port/sse"
    done
    port=$(free_port)
    "$reference" http --listen "127.0.0.1:$port" >"$work/reference.log" 2>&1 &
    background="$background $!"
    direct="http://localhost:$port/mcp"
    suites="0.2.0-alpha.12 0.1.16" behind stdio -- "$reference" stdio --late-ms 12000
    suites="0.2.0-alpha.12" behind http "$http"
    suites="0.2.0-alpha.12" behind sse "$sse"
    stop_background
}
wanted conformance_client && test_ conformance_client 400 node "$here/conformance_client.mjs" --sessile "$sessile"
if wanted conformance; then
    if [ -x "$reference" ] && [ -f "$here/conformance.mjs" ]; then
        conformance
    else
        echo "== conformance: no $reference"
        failed=$((failed + 1))
    fi
fi

echo "$summary"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
