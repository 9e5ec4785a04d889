#!/bin/sh
# Installs the real peers that the end-to-end tests run against: Node packages, Node 22 (for the conformance suite),
# Chromium, and the Python clients. Needs only Node with npm and Python 3; the rest it gets by itself.
#
#   tests/peers/setup.sh            into target/peers, or $SESSILE_PEERS_DIR
#
# Safe to run again: it does nothing when the pins have not changed. The folder it fills:
#   node_modules/                   the packages of package.json; Node 22 is node_modules/node22/bin/node
#   venv/bin/python                 the clients of requirements.txt
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${SESSILE_PEERS_DIR:-$here/../../target/peers}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

say() { echo "peers: $*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

updated=
apt_install() {
    command -v apt-get >/dev/null || { say "please install: $*"; exit 1; }
    [ -n "$updated" ] || as_root apt-get update -qq
    updated=1
    say "apt-get install $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

for tool in node npm python3; do
    command -v $tool >/dev/null || { say "$tool is needed"; exit 1; }
done
command -v chromium >/dev/null || apt_install chromium

# One setup at a time: two test runs may start together. Whoever waited finds the work done.
if command -v flock >/dev/null && [ -z "${SESSILE_PEERS_LOCKED:-}" ]; then
    SESSILE_PEERS_LOCKED=1 exec flock "$dir/.lock" "$0" "$@"
fi

# Each half has a stamp of its own, so that a new pin for one leaves the other alone.
stamp_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
fresh() { [ "$(cat "$1" 2>/dev/null || true)" = "$2" ]; }

node_stamp=$(stamp_of "$here/package.json" "$here/package-lock.json")
if ! fresh "$dir/.stamp-node" "$node_stamp" || [ ! -x "$dir/node_modules/node22/bin/node" ]; then
    say "installing the Node packages"
    rm -f "$dir/.stamp-node"
    cp "$here/package.json" "$here/package-lock.json" "$dir/"
    (cd "$dir" && npm ci --no-audit --no-fund --omit-lockfile-registry-resolved=true >&2)
    # The test scripts import their packages from here; see tests/e2e/lib.mjs.
    "$dir/node_modules/node22/bin/node" --version >/dev/null || { say "Node 22 was not installed"; exit 1; }
    echo "$node_stamp" >"$dir/.stamp-node"
fi

python_stamp=$(stamp_of "$here/requirements.txt")
if ! fresh "$dir/.stamp-python" "$python_stamp" || [ ! -x "$dir/venv/bin/python" ]; then
    say "installing the Python clients"
    rm -rf "$dir/.stamp-python" "$dir/venv"
    # Debian keeps venv in a package of its own, and without it there is no pip.
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    echo "$python_stamp" >"$dir/.stamp-python"
fi
