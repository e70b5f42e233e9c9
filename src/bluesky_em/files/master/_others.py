"""Data of other packages' detectors: their location, and links to those in HDF5."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import h5py

from bluesky_em.documents import Document

from ..document_values import to_array, to_json
from ..nexus import new_field, new_group


def add_other(parent: h5py.Group, resource: Document, folder: Path) -> None:
    """Describe one `resource` or `stream_resource`, under its data key or uid.

    Args:
        parent: the group to add it to.
        resource: the document.
        folder: of the master file; links are relative to it, so that both can be moved together.
    """
    group = new_group(parent, resource.get("data_key", resource["uid"]), "NXcollection")
    for name in ("uri", "mimetype", "spec", "root", "resource_path"):
        if resource.get(name):
            new_field(group, name, to_array([resource[name]])[0])
    new_field(group, "document", to_json(resource))
    path, dataset = _path_of(resource), resource.get("parameters", {}).get("dataset")
    if resource.get("mimetype") == "application/x-hdf5" and path and dataset:
        group["data"] = h5py.ExternalLink(_from(folder, path), dataset)


def _path_of(resource: Document) -> str:
    uri = urlsplit(resource.get("uri", ""))
    return url2pathname(uri.path) if uri.scheme == "file" else ""


def _from(folder: Path, path: str) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return path
