"""Checks rendered manifests: kubernetes.py VERSION RENDERING... (see manifests.py). The first one must be the
base with the components, because broken variants are made of it."""

import os
import pathlib
import subprocess
import sys
import tempfile

import kubernetes_validate

import manifests
import mutations

# From the oldest release that users run to the newest whose schemas are known.
RELEASES = ["1.30", "1.33", "1.37"]
# Their own checks test these kinds: no schema of Kubernetes has them.
CUSTOM = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}


def schema_faults(documents):
    for release in RELEASES:
        for document in documents:
            if document["kind"] in CUSTOM:
                continue
            try:
                kubernetes_validate.validate(document, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{release}: {document['kind']}: {error}"


def check_routes(text):
    """`portway check --strict` of a ConfigMap's file."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        command = [os.environ["PORTWAY"], "check", "--strict", "--config", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        yield f"portway check --strict: {done.stderr}"


def main():
    version, *paths = sys.argv[1:]
    failed = []
    for path in paths:
        it = manifests.Rendering.read(path, version)
        found = manifests.faults(it) + list(check_routes(it.routes_text))
        found += schema_faults(it.documents)
        failed += [f"{pathlib.Path(path).stem}: {one}" for one in found]
        print(f"{pathlib.Path(path).stem}: {len(it.documents)} objects, {len(found)} faults")
    base = manifests.Rendering.read(paths[0], version)
    failed += mutations.missed(base)
    print(f"{len(mutations.VARIANTS)} broken variants")
    base.container["readOnly"] = True
    if not list(schema_faults(base.documents)):
        failed.append("an unknown field passes the schemas")
    if not list(check_routes(base.routes_text + '[listeners.other]\nbind = "x"\n')):
        failed.append("a bad routes.toml passes")
    if not list(check_routes(base.routes_text.replace("exposed = true\n", ""))):
        failed.append("an admin address that others can reach passes without admin.exposed")
    print("\n".join(failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
