# For checks in bash: tools from Debian and PyPI.

# Ends the check: something that it needs is not available.
skip() {
    echo "$1"
    exit 77
}

# Ends the check: this machine does not allow what it needs.
unable() {
    echo "$1"
    exit 75
}

# need_namespaces: the root user of a container may be unable to make them.
need_namespaces() {
    unshare --net --mount --pid --fork true || unable "this machine does not allow namespaces"
}

# need_apt COMMAND PACKAGE...: installs the packages if the command is missing.
need_apt() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    # The lists of a fresh machine are empty or old.
    apt-get update -q >/dev/null || skip "the package lists are not available"
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" ||
        skip "cannot install $* from Debian"
}

# need_pip PACKAGE...: installs into a venv that all checks share; its commands come first in PATH.
need_pip() {
    need_apt pip3 python3-venv python3-pip
    [ -d "$TOOLS/venv" ] || python3 -m venv "$TOOLS/venv" || skip "cannot make a venv"
    "$TOOLS/venv/bin/pip" install --quiet "$@" || skip "cannot install $* from PyPI"
    PATH=$TOOLS/venv/bin:$PATH
}
