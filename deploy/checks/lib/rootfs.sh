# For checks in bash: a small Debian with systemd, to change root into or to boot in a container.
. deploy/checks/lib/tools.sh

# need_rootfs DIRECTORY: makes a copy of it there. All checks of a run share the original.
need_rootfs() {
    if [ ! -d "$TOOLS/rootfs" ]; then
        need_apt mmdebstrap mmdebstrap
        # The same release as here, so that a binary from here finds its libraries.
        mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus \
            "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$TOOLS/rootfs.new" ||
            skip "a root file system cannot be made"
        mv "$TOOLS/rootfs.new" "$TOOLS/rootfs"
    fi
    cp -a --reflink=auto "$TOOLS/rootfs" "$1"
}

# boot ROOT: starts systemd as process 1 in it, in a network of its own that has loopback alone.
boot() {
    need_apt podman podman runc catatonit
    need_apt nsenter util-linux
    cat >"$WORK/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
CONF
    export CONTAINERS_CONF=$WORK/containers.conf
    trap shut_down EXIT
    container=$(podman_here run -d --systemd=always --network=none --cap-add=SYS_ADMIN,SYS_RESOURCE \
        --rootfs "$1" /sbin/init) || skip "podman cannot run systemd here"
    main=$(podman_here inspect -f '{{.State.Pid}}' "$container")
    within 60 is_up || { inside systemctl --no-pager list-jobs; podman_here logs "$container"; exit 1; }
}

podman_here() {
    podman --root "$WORK/containers" --runroot "$WORK/containers.run" "$@"
}

is_up() {
    case $(inside systemctl is-system-running 2>/dev/null) in running | degraded) ;; *) return 1 ;; esac
}

shut_down() {
    if [ -n "${serving:-}" ]; then
        # `load` ends by itself upon SIGTERM, but late.
        kill -KILL $serving 2>/dev/null || true
        wait $serving 2>/dev/null || true
    fi
    [ -z "${container:-}" ] || podman_here rm -f -t 0 "$container" >/dev/null || true
    # What podman mounts for its storage.
    umount -R "$WORK"/containers* 2>/dev/null || true
}

# inside COMMAND...: in the container.
inside() {
    podman_here exec "$container" "$@"
}

# traffic ARGUMENTS...: clients in the network of the container; see traffic.py.
traffic() {
    nsenter -t "$main" -n python3 deploy/checks/lib/traffic.py "$@"
}

# in_background FILE ARGUMENTS...: the same until the check ends; $! is the process itself.
in_background() {
    local output=$1
    shift
    nsenter -t "$main" -n python3 deploy/checks/lib/traffic.py "$@" >"$output" &
    serving="${serving:-} $!"
}

# load NAME WORD: 300 connections a second, until `unload` says what became of them.
load() {
    in_background "$WORK/load" load "$@" 300
    load=$!
}

unload() {
    local status=0
    kill -TERM "$load"
    wait "$load" || status=$?
    cat "$WORK/load"
    return $status
}

# within SECONDS COMMAND...: waits until it succeeds.
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || { echo "not in time: $*"; return 1; }
        sleep 0.2
    done
}

# the PROPERTY...: of portway.service.
the() {
    inside systemctl show --value -p "$1" portway.service
}

# expect WHAT IS WANTED
expect() {
    [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; return 1; }
}

# fails COMMAND...: that it does.
fails() {
    ! "$@" || { echo "did not fail: $*"; return 1; }
}
