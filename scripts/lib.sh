# Shared by the scripts beside it: each sources this file, then calls use_venv.

set -euo pipefail
unset CDPATH
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# find_python: print the first Python that is new enough.
find_python() {
    local candidate
    for candidate in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v -- "$candidate"
            return
        fi
    done
    die "no Python 3.10 or later found: install one, so that python3 or python3.10 starts it"
}

# quietly COMMAND...: run it, and show what it wrote only if it fails.
quietly() {
    local output
    output=$("$@" 2>&1) || {
        printf '%s\n' "$output" >&2
        die "this command failed: $*"
    }
}

# venv_stamp PYTHON REQUIREMENT: what an environment was made from; another answer makes it anew.
venv_stamp() {
    "$1" -VV
    printf '%s\n' "$ROOT" "$2"
    cksum <"$ROOT/setup.cfg"
}

# use_venv PURPOSE REQUIREMENT: set VENV to an environment of its own for PURPOSE, with this project
# (editable) and REQUIREMENT (like '.[test]') installed; an earlier one is used again while it fits.
use_venv() {
    local python stamp
    VENV=$ROOT/.venv-$1
    python=$(find_python)
    stamp=$(venv_stamp "$python" "$2")
    if [ "$(cat -- "$VENV/made-from" 2>/dev/null)" != "$stamp" ]; then
        make_venv "$python" "$2"
        printf '%s\n' "$stamp" >"$VENV/made-from" # last: a half-made environment is made anew
    fi
}

make_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$1 cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)"
    printf '%s: making %s, once\n' "${0##*/}" "$VENV" >&2
    rm -rf -- "$VENV"
    quietly "$1" -m venv --without-pip -- "$VENV"
    quietly "$VENV/bin/python" -m ensurepip --default-pip # venv alone would not say what went wrong here
    cd -- "$ROOT"
    # a path, not a finder that costs every start of anthill 20 ms which users do not pay
    quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --config-settings editable_mode=compat --editable "$2"
}
