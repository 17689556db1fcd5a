"""huggingface_hub against `pasture serve --registry`: makes a repository, uploads, lists, reads back.

By hand, since it needs the package: HF_ENDPOINT and HF_TOKEN name the server and a key that may push.
Usage: HF_HUB_DISABLE_XET=1 HF_ENDPOINT=http://127.0.0.1:8080 HF_TOKEN=KEY python hub.py FOLDER [owner/name]
FOLDER is uploaded; without a second argument the repository is lab/from-python.
"""

import hashlib
import pathlib
import sys
import tempfile

from huggingface_hub import HfApi, hf_hub_download, snapshot_download


def digests(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path in it."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    name = sys.argv[2] if len(sys.argv) > 2 else "lab/from-python"
    api = HfApi()
    print("whoami", api.whoami()["name"])
    api.create_repo(name, private=True, exist_ok=True)
    done = api.upload_folder(folder_path=folder, repo_id=name, commit_message="from Python")
    print("commit", done.oid)
    info = api.model_info(name, files_metadata=True)
    assert info.sha == done.oid and info.private, info
    wanted = digests(folder)
    assert {row.rfilename for row in info.siblings} == set(wanted), info.siblings
    assert {row.path for row in api.list_repo_tree(name, recursive=True)} >= set(wanted)
    with tempfile.TemporaryDirectory() as cache:
        path = snapshot_download(name, cache_dir=cache)
        assert digests(pathlib.Path(path)) == wanted, "what came back is not what went"
        one = sorted(wanted)[0]
        again = hf_hub_download(name, one, cache_dir=cache)
        assert hashlib.sha256(pathlib.Path(again).read_bytes()).hexdigest() == wanted[one]
    api.delete_file(sorted(wanted)[0], name, commit_message="one less")
    assert len(api.list_repo_files(name)) == len(wanted) - 1
    print("ok", len(wanted), "files")


if __name__ == "__main__":
    main()
