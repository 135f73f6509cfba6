"""Files for the checks of the pod.

pod.py template RENDERING [IMAGE]: prints the pod of a rendered DaemonSet, and its ConfigMap, for podman:
    with an image of this machine, or with its own.
pod.py probes RENDERING: prints path and port of each probe.
pod.py publish DIRECTORY FILE: puts FILE there as routes.toml the way the kubelet does.
"""

import os
import pathlib
import shutil
import sys
import tempfile

import yaml


def read(rendering):
    with open(rendering) as file:
        documents = list(yaml.safe_load_all(file))
    [template] = [it["spec"]["template"] for it in documents if it["kind"] == "DaemonSet"]
    [routes] = [it for it in documents if it["kind"] == "ConfigMap"]
    return template, routes


def template(rendering, image=None):
    pod, routes = read(rendering)
    pod = {"apiVersion": "v1", "kind": "Pod", **pod}
    pod["metadata"]["name"] = "portway"
    [container] = pod["spec"]["containers"]
    if image:
        container["image"], container["imagePullPolicy"] = image, "Never"
    for name in [name for name in container if name.endswith("Probe")]:
        # For probes podman would run curl in the container.
        del container[name]
    # The ports need not be published.
    del container["ports"]
    # There is no node and no API server.
    for key in ["nodeSelector", "tolerations", "serviceAccountName"]:
        del pod["spec"][key]
    print(yaml.safe_dump_all([routes, pod]))


def probes(rendering):
    [container] = read(rendering)[0]["spec"]["containers"]
    for name in [name for name in container if name.endswith("Probe")]:
        get = container[name]["httpGet"]
        print(get["path"], get["port"])


def publish(directory, file):
    """Does what the kubelet does: writes a new directory, and renames a symbolic link to it over `..data`."""
    directory = pathlib.Path(directory)
    new = pathlib.Path(tempfile.mkdtemp(prefix="..2026_", dir=directory))
    new.chmod(0o755)
    shutil.copy(file, new / "routes.toml")
    (new / "routes.toml").chmod(0o644)
    data, link = directory / "..data", directory / "routes.toml"
    before = os.readlink(data) if data.exists() else None
    (directory / "..data_tmp").symlink_to(new.name)
    os.rename(directory / "..data_tmp", data)
    if not link.is_symlink():
        link.unlink(missing_ok=True)
        link.symlink_to("..data/routes.toml")
    if before:
        shutil.rmtree(directory / before)


command, *arguments = sys.argv[1:]
{"template": template, "probes": probes, "publish": publish}[command](*arguments)
