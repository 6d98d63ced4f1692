"""A stand-in for the Hugging Face Hub on this machine: repositories with branches in memory, files in plain commits."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Commits of repositories: `repos[name][branch]` is a commit, `commits[commit]` its files."""

    def __init__(self):
        self.repos, self.commits, self.requests = {}, {}, []

    def commit(self, repo, branch, files):
        before = self.commits.get(self.repos[repo].get(branch), {})
        files = before | files
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digest] = files
        self.repos[repo][branch] = digest
        return digest

    def revision(self, repo, name):
        found = self.repos.get(repo, {}).get(name, name)
        return found if found in self.commits else None


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        """Say nothing."""

    def answer(self, value, status=200, headers=(), body=True):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in headers:
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def missing(self, code, body=True):
        self.answer({"error": code}, 404, [("X-Error-Code", code)], body)

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(("POST", path))
        address = f"http://{self.headers['Host']}"
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.hub.repos.setdefault(name, {})
            if not self.hub.repos[name]:
                self.hub.commit(name, "main", {".gitattributes": b""})
            return self.answer({"url": f"{address}/{name}"})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo, verb, branch = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/(.+)", path).groups()
        if repo not in self.hub.repos:
            return self.missing("RepoNotFound")
        if verb == "branch":
            self.hub.repos[repo][branch] = self.hub.repos[repo]["main"]
            return self.answer({})
        if verb == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in json.loads(content)["files"]
            ]
            return self.answer({"files": files})
        lines = [json.loads(line) for line in content.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        digest = self.hub.commit(repo, branch, files)
        return self.answer(
            {"commitUrl": f"{address}/{repo}/commit/{digest}", "commitOid": digest, "success": True}
        )

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(("GET" if body else "HEAD", path))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repo, name = match[1], match[2] or "main"
            digest = self.hub.revision(repo, name)
            if digest is None:
                return self.missing("RevisionNotFound" if repo in self.hub.repos else "RepoNotFound", body)
            files = [{"rfilename": file} for file in self.hub.commits[digest]]
            return self.answer({"id": repo, "modelId": repo, "sha": digest, "siblings": files}, body=body)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            files = self.hub.commits[self.hub.revision(match[1], match[2])]
            rows = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in files.items()
            ]
            return self.answer(rows, body=body)
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        digest = self.hub.revision(match[1], match[2]) if match else None
        data = self.hub.commits.get(digest, {}).get(match[3]) if match else None
        if data is None:
            return self.missing("EntryNotFound", body)
        etag = hashlib.sha1(data).hexdigest()
        self.answer(data, headers=[("ETag", f'"{etag}"'), ("X-Repo-Commit", digest)], body=body)


@contextmanager
def local_hub():
    """Serve an empty hub; yields it and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Local", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
