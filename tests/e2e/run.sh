#!/bin/sh
# All end-to-end tests with real peers, in a size for CI (some minutes on two cores), against the binaries of
# `cargo build --release --workspace`.
#
#   tests/e2e/run.sh [NAME...]      all, or only those named: everything sse_clients python_clients storm playwright
#                               shared_sessions union limits leaks
#                               stalled conformance conformance_client
#   SESSILE_E2E=full tests/e2e/run.sh      the sizes that the project promises: a storm of a minute, a thousand sessions
#   SESSILE_BIN=PATH                       another binary than target/release/sessile, such as target/dist/sessile
#
# Each script can be run by itself; see the head of each. The last line is `N passed, N failed`. A script that fails without
# counting anything counts as one failure, and one that counts nothing and ends well as one success.
#
# Scripts that mostly wait for timers run side by side, in lanes; those that measure times, memory or processors, or that
# keep the machine busy, run one after the other with nothing beside them. What a lane prints appears when all lanes of its
# group have ended, in the order of this file.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
SESSILE_PEERS_DIR=${SESSILE_PEERS_DIR:-$root/target/peers}
export SESSILE_PEERS_DIR
sessile=${SESSILE_BIN:-$root/target/release/sessile}
reference=$(dirname "$sessile")/reference-server
work=$(mktemp -d)
background=
lanes=

# By the ids of what was started here, and of nothing else.
stop_background() {
    for pid in $background; do kill "$pid" 2>/dev/null; done
    for pid in $background; do wait "$pid" 2>/dev/null; done
    background=
}
# A lane stops what it has started when it gets SIGTERM, and only then is its folder removed.
stop_all() {
    for pid in $lanes; do kill "$pid" 2>/dev/null; done
    for pid in $lanes; do wait "$pid" 2>/dev/null; done
    stop_background
    rm -rf "$work"
}
trap stop_all EXIT
trap 'exit 130' INT TERM

[ -x "$sessile" ] || { echo "no $sessile: run cargo build --release --workspace first" >&2; echo "0 passed, 1 failed"; exit 1; }
"$root/tests/peers/setup.sh" || { echo "0 passed, 1 failed"; exit 1; }

if [ "${SESSILE_E2E:-ci}" = full ]; then
    storm="--seconds 60" playwright="--rounds 30" leaks="--sessions 1000 --vanishing 200 --warm-up 200"
    stalled=
else
    storm="--seconds 10" playwright="--rounds 10" leaks="--sessions 300 --vanishing 60 --warm-up 100"
    stalled="clients_that_do_not_read servers_that_do_not_read half_sent_bodies bodies_without_a_session long_ids noise_of_servers lines_that_give_way"
fi

# One line for each script that has ended: its name, what passed, what failed.
counts=$work/counts
: >"$counts"

# test_ NAME SECONDS COMMAND...: the limit is for what even the script's own clock cannot end.
test_() {
    name=$1 limit=$2
    shift 2
    begun=$(date +%s)
    # In the background, so that a signal for this shell does not have to wait until the script has ended.
    # What a shell starts in the background ignores SIGINT, and so would all servers below.
    timeout -k 10 "$limit" env --default-signal=INT,QUIT "$@" >"$work/out" 2>&1 &
    script=$!
    background="$background $script"
    wait "$script"
    status=$?
    background=${background% "$script"}
    echo "== $name ($(($(date +%s) - begun)) s)"
    said=$(sed -n 's/^[a-z_]*: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/out" | tail -1)
    p=${said% *} f=${said#* }
    if [ -z "$said" ]; then
        p=0 f=0
        if [ $status = 0 ]; then p=1; else f=1; fi
    elif [ $status != 0 ] && [ "$f" = 0 ]; then
        f=1
    fi
    if [ "$f" = 0 ]; then grep -v '^ok' "$work/out"; else tail -n 200 "$work/out"; fi
    [ $status = 124 ] && echo "it took longer than $limit s"
    echo "$p $f $name" >>"$counts"
}

# lane COMMAND...: runs the function beside the other lanes, with a folder, a background and counts of its own.
lane() {
    set -- "$work/lane$(echo "$lanes" | wc -w)" "$@"
    mkdir "$1"
    (
        work=$1 counts=$1/counts background='' lanes=''
        : >"$counts"
        trap stop_background EXIT
        trap 'exit 143' INT TERM
        shift
        "$@"
    ) >"$1/said" 2>&1 &
    lanes="$lanes $!"
}

# Waits for the lanes, and adds what they have said and counted to our own. A lane that counted nothing has failed.
join() {
    number=0
    for pid in $lanes; do
        wait "$pid"
        cat "$work/lane$number/said"
        if [ -s "$work/lane$number/counts" ]; then
            cat "$work/lane$number/counts" >>"$counts"
        else
            echo "0 1 lane $number" >>"$counts"
        fi
        rm -rf "$work/lane$number"
        number=$((number + 1))
    done
    lanes=
}

wanted() {
    [ -z "$names" ] && return 0
    for one in $names; do [ "$one" = "$1" ] && return 0; done
    return 1
}
names=$*

# The URL that sessile, or the reference server, says in this log; nothing after ten seconds.
url_in() {
    for _ in $(seq 100); do
        url=$(sed -n 's,.*\(http://[^ ]*/\(mcp\|sse\)\).*,\1,p' "$1" | head -1)
        [ -n "$url" ] && { echo "$url"; return; }
        sleep 0.1
    done
}
# The DNS-rebinding scenario insists on this name.
by_name() { sed 's|127\.0\.0\.1|localhost|'; }

# behind NAME TARGET...: sessile in front of TARGET must give the suites what the server itself at $direct gives them.
behind() {
    kind=$1
    shift
    "$sessile" serve --listen 127.0.0.1:0 "$@" >"$work/sessile-$kind.log" 2>&1 &
    background="$background $!"
    through=$(url_in "$work/sessile-$kind.log" | by_name)
    for suite in $suites; do
        test_ "conformance $suite, $kind" 300 node "$here/conformance.mjs" --direct "$direct" --through "$through" --suite "$suite"
    done
}

# start_reference NAME MODE [OPTION...]: starts the reference server; its URL is then in its log.
start_reference() {
    log=$work/reference-$1.log mode=$2
    shift 2
    "$reference" "$mode" --listen 127.0.0.1:0 "$@" >"$log" 2>&1 &
    background="$background $!"
}

conformance() {
    # Of what is behind sessile, no stream ends to make its client poll. The suite hangs up itself after ten seconds, and
    # then the answer must be there for the one who comes back.
    start_reference http http --late-ms 12000
    start_reference sse sse --late-ms 12000
    start_reference direct http
    http=$(url_in "$work/reference-http.log") sse=$(url_in "$work/reference-sse.log")
    direct=$(url_in "$work/reference-direct.log" | by_name)
    suites="0.2.0-alpha.12 0.1.16" behind stdio -- "$reference" stdio --late-ms 12000
    suites="0.2.0-alpha.12" behind http "$http"
    suites="0.2.0-alpha.12" behind sse "$sse"
    stop_background
}

everything() { test_ "everything on $1" 300 node "$here/everything.mjs" --sessile "$sessile" --backend "$1"; }
clients() {
    wanted sse_clients && test_ sse_clients 150 node "$here/sse_clients.mjs" --sessile "$sessile"
    wanted python_clients && test_ python_clients 300 "$SESSILE_PEERS_DIR/venv/bin/python" "$here/python_clients.py" --sessile "$sessile"
}

# Side by side: each group together keeps about half of one core busy.
if wanted everything; then
    for backend in stdio http sse; do lane everything $backend; done
fi
if wanted sse_clients || wanted python_clients; then lane clients; fi
join
if wanted conformance; then
    if [ -x "$reference" ]; then
        lane conformance
    else
        echo "== conformance: no $reference"
        echo "0 1 conformance" >>"$counts"
    fi
fi
wanted conformance_client && lane test_ conformance_client 400 node "$here/conformance_client.mjs" --sessile "$sessile"
join

# Alone.
# shellcheck disable=SC2086
wanted storm && test_ storm 300 node "$here/storm.mjs" --sessile "$sessile" $storm
# shellcheck disable=SC2086
wanted playwright && test_ playwright 400 node "$here/playwright.mjs" --sessile "$sessile" $playwright
wanted shared_sessions && test_ shared_sessions 400 "$SESSILE_PEERS_DIR/venv/bin/python" "$here/shared_sessions.py" --sessile "$sessile"
wanted union && test_ union 300 node "$here/union.mjs" --sessile "$sessile"
wanted limits && test_ limits 120 python3 "$here/limits.py" --sessile "$sessile"
# shellcheck disable=SC2086
wanted stalled && test_ stalled 1800 python3 "$here/stalled.py" --sessile "$sessile" $stalled
# shellcheck disable=SC2086
wanted leaks && test_ leaks 600 node "$here/leaks.mjs" --sessile "$sessile" $leaks

passed=0
failed=0
echo
while read -r p f name; do
    printf '%-36s %4d passed %4d failed\n' "$name" "$p" "$f"
    passed=$((passed + p)) failed=$((failed + f))
done <"$counts"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
