# For checks with containers: podman and buildah with their own storage in $WORK.

# need_containers: sets them up. Leftovers are removed when the check ends.
need_containers() {
    need_apt podman podman
    need_apt buildah buildah
    need_apt runc runc
    need_apt catatonit catatonit
    # runc and a low limit of descriptors also work inside another container.
    cat >"$WORK/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "$WORK/tmp"
CONF
    cat >"$WORK/storage.conf" <<CONF
[storage]
driver = "vfs"
graphroot = "$WORK/storage"
runroot = "$WORK/run"
CONF
    export CONTAINERS_CONF=$WORK/containers.conf CONTAINERS_STORAGE_CONF=$WORK/storage.conf
    background=()
    trap 'end_containers $?' EXIT
    # A static program that is there.
    install -D "$(command -v catatonit)" "$WORK/probe/catatonit"
    podman run --rm --network none --rootfs "$WORK/probe" /catatonit --version >/dev/null ||
        unable "podman cannot run a container on this machine"
}

# Also ends the processes in `background`. If the check failed, it prints the output of its containers.
end_containers() {
    local id
    if [ "$1" -ne 0 ]; then
        for id in $(podman ps --all --quiet); do
            echo "== container $id"
            podman logs --tail 10 "$id" 2>&1 || true
        done
    fi
    kill "${background[@]}" 2>/dev/null || true
    podman pod rm --all --force --time 1 >/dev/null
    podman rm --all --force --time 1 >/dev/null
}

# inside PID COMMAND...: runs it in the network of a container's process.
inside() {
    local pid=$1
    shift
    nsenter --target "$pid" --net -- "$@"
}

# until_true SECONDS COMMAND...: runs it until it succeeds.
until_true() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { echo "in vain: $*"; return 1; }
        sleep 0.1
    done
}

# backend PID PORT NAME: a TLS server with a certificate for NAME, $WORK/NAME.pem, in the network of PID.
backend() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj "/CN=$3" -addext "subjectAltName=DNS:$3" \
        -keyout "$WORK/$3.key" -out "$WORK/$3.pem" 2>/dev/null
    # There is no function in between, so that $! is the server.
    nsenter --target "$1" --net -- openssl s_server -quiet -www -accept "127.0.0.1:$2" \
        -cert "$WORK/$3.pem" -key "$WORK/$3.key" >/dev/null 2>&1 &
}

# reaches PID NAME: whether a client in the network of PID gets an answer from the server NAME through
# portway, and the certificate is that server's own.
reaches() {
    local said
    said=$(printf 'GET / HTTP/1.0\r\n\r\n' | inside "$1" timeout 10 openssl s_client -quiet \
        -connect 127.0.0.1:8443 -servername "$2" -verify_hostname "$2" -verify_return_error \
        -CAfile "$WORK/$2.pem" 2>&1) || return
    [[ $said == *"HTTP/1.0 200"* ]]
}

# unrouted PID NAME: whether portway answers unrecognized_name to a client in the network of PID.
unrouted() {
    local said
    said=$(inside "$1" timeout 10 openssl s_client -connect 127.0.0.1:8443 -servername "$2" \
        </dev/null 2>&1) || true
    [[ $said == *"alert number 112"* ]]
}
