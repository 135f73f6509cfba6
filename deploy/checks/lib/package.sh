# For checks in bash: the Debian package, built once for all checks of a run.
. deploy/checks/lib/tools.sh

# need_package: builds it; its file is $package.
need_package() {
    if ! ls "$TOOLS"/package/portway_*.deb >/dev/null 2>&1; then
        need_apt dpkg-shlibdeps dpkg-dev
        # Little optimisation does not matter for the package, and halves the time of the build.
        PATH=$PATH:$TOOLS/bin
        cargo deb --version >/dev/null 2>&1 ||
            CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
                cargo install --quiet --locked --root "$TOOLS" cargo-deb --version 3.8.0 ||
            skip "cargo-deb cannot be installed"
        mkdir -p "$TOOLS/package"
        deploy/debian/build "$TOOLS/package"
    fi
    package=$(ls "$TOOLS"/package/portway_*.deb)
}
