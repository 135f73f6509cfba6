# For checks in bash: tools from Debian and PyPI.

# Ends the check: something it needs could not be had.
skip() {
    echo "$1"
    exit 77
}

# Ends the check: this machine does not allow what it needs.
unable() {
    echo "$1"
    exit 75
}

# need_namespaces: root of a container may be without them.
need_namespaces() {
    unshare --net --mount --pid --fork true || unable "this machine gives no namespaces"
}

# need_apt COMMAND PACKAGE...: installs the packages if the command is missing.
need_apt() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    # The lists of a fresh machine are empty or old.
    apt-get update -q >/dev/null || skip "the package lists cannot be had"
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" ||
        skip "Debian does not give $*"
}

# need_pip PACKAGE...: installs into a venv that all checks share; its commands come first in PATH.
need_pip() {
    need_apt pip3 python3-venv python3-pip
    [ -d "$TOOLS/venv" ] || python3 -m venv "$TOOLS/venv" || skip "no venv can be made"
    "$TOOLS/venv/bin/pip" install --quiet "$@" || skip "PyPI does not give $*"
    PATH=$TOOLS/venv/bin:$PATH
}
