# For checks in bash: a small Debian with systemd, to change root into or to boot as a machine.
. deploy/checks/lib/tools.sh
. deploy/checks/lib/containers.sh

# need_rootfs DIRECTORY: copies it to the directory. All checks of a run share the original.
need_rootfs() {
    if [ ! -d "$TOOLS/rootfs" ]; then
        need_apt mmdebstrap mmdebstrap
        # The same release as this machine's, so that its binaries find their libraries.
        mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus \
            "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$TOOLS/rootfs.new" ||
            skip "a root file system cannot be made"
        mv "$TOOLS/rootfs.new" "$TOOLS/rootfs"
    fi
    cp -a --reflink=auto "$TOOLS/rootfs" "$1"
}

# boot ROOT: starts the machine: systemd as process 1, and its own network with only loopback.
boot() {
    need_containers
    need_apt nsenter util-linux
    container=$(podman run -d --systemd=always --network=none --cap-add=SYS_ADMIN,SYS_RESOURCE \
        --ulimit nofile=16384:16384 --ulimit nproc=1024:1024 --rootfs "$1" /sbin/init) || unable "podman cannot run systemd on this machine"
    init=$(podman inspect -f '{{.State.Pid}}' "$container")
    until_true 60 is_up || { machine systemctl --no-pager list-jobs; exit 1; }
}

is_up() {
    case $(machine systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

# machine COMMAND...: runs it on the machine.
machine() {
    podman exec "$container" "$@"
}

# the PROPERTY...: prints properties of portway.service.
the() {
    machine systemctl show --value -p "$1" portway.service
}

# traffic ARGUMENTS...: runs clients in the network of the machine; see traffic.py.
traffic() {
    inside "$init" python3 deploy/checks/lib/traffic.py "$@"
}

# in_background FILE ARGUMENTS...: the same until the check ends; $! is the process itself.
in_background() {
    local output=$1
    shift
    nsenter --target "$init" --net -- python3 deploy/checks/lib/traffic.py "$@" >"$output" &
    background+=($!)
}

# load NAME WORD: makes 300 connections per second, until `unload` prints their results.
load() {
    in_background "$WORK/load" load "$@" 300
    load=$!
}

unload() {
    local status=0
    kill "$load"
    wait "$load" || status=$?
    cat "$WORK/load"
    return $status
}

# expect WHAT IS WANTED
expect() {
    [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; return 1; }
}

# fails COMMAND...: succeeds if the command fails.
fails() {
    ! "$@" || { echo "did not fail: $*"; return 1; }
}
