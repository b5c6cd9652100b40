# Sourced by the scripts of this folder: the project's own environment, .venv, made and built where it is not yet.
# shellcheck shell=sh

here=$(dirname -- "$(readlink -f -- "$0")")
root=${here%/*}
stamp=$root/.venv/.shimmy-built
# An empty HOME would make "/" the home folder; without the variable the user's entry in passwd counts.
[ -n "${HOME-}" ] || unset HOME

# Succeeds where nothing that is built from has changed since the last build: a matter of a few milliseconds.
is_current() {
    [ -r "$stamp" ] || return 1
    { read -r built_root && read -r built_backend && read -r built_llama && read -r built_extras; } <"$stamp" || return 1
    [ "$built_root" = "root $root" ] || return 1
    [ -z "${SHIMMY_BACKEND-}" ] || [ "$built_backend" = "backend $SHIMMY_BACKEND" ] || return 1
    [ "$built_llama" = "llama.cpp ${SHIMMY_LLAMA_CPP_DIR:-pinned}" ] || return 1
    [ "$1" = run ] || [ "$built_extras" = "extras dev" ] || return 1
    [ -x "$root/.venv/bin/python" ] || return 1
    [ -z "$(find "$root/native" "$root/CMakeLists.txt" "$root/pyproject.toml" "$here/constraints.txt" \
        -path "$root/native/llama.cpp" -prune -o -newer "$stamp" -print)" ]
}

# Prints the first Python that is new enough.
find_python() {
    for candidate in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    echo "shimmy: Python 3.11 or newer is needed: install it (Debian, Ubuntu, Fedora: the package python3)" >&2
    return 1
}

# ensure_environment run|dev: leaves a built .venv, with the development extras for dev, or exits with 1.
ensure_environment() {
    is_current "$1" && return 0
    python=$(find_python) || exit 1
    "$python" "$here/bootstrap.py" "$1" </dev/null || exit $?
}
