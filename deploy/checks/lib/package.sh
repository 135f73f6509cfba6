# For checks in bash: the Debian package, built once for all checks of a run.
. deploy/checks/lib/tools.sh

# need_package: builds it; its file is $package.
need_package() {
    if ! ls "$TOOLS"/package/portway_*.deb >/dev/null 2>&1; then
        need_apt dpkg-shlibdeps dpkg-dev
        PATH=$PATH:$TOOLS/bin
        cargo deb --version >/dev/null 2>&1 || deploy/checks/lib/cargo_deb "$TOOLS" ||
            skip "cargo-deb cannot be installed"
        mkdir -p "$TOOLS/package"
        deploy/debian/build "$TOOLS/package"
    fi
    package=$(ls "$TOOLS"/package/portway_*.deb)
}
