# For checks in bash: the Debian package, built once for all checks of a run.
. deploy/checks/lib/tools.sh

# need_package: its file is $package.
need_package() {
    if ! ls "$TOOLS"/package/portway_*.deb >/dev/null 2>&1; then
        need_apt dpkg-shlibdeps dpkg-dev
        cargo deb --version >/dev/null 2>&1 ||
            cargo install --quiet --locked cargo-deb --version 3.8.0 ||
            skip "cargo-deb cannot be installed"
        mkdir -p "$TOOLS/package"
        deploy/debian/build "$TOOLS/package"
    fi
    package=$(ls "$TOOLS"/package/portway_*.deb)
}
