#!/usr/bin/env python3
"""The part of a node that pods need to get on: `kubelet.py API-PORT TOKEN DIRECTORY`.

Binds every pod to one node and runs the commands of its containers as processes of this machine,
whatever their images are. A container without a command is running from then on, and one whose image
has `bad` in its name can never be pulled. Output is served to the API server, so `logs` works.
Prints `ready` and its own port once the API server is ready and the node is known to it.
"""
import datetime
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

NODE = "node"
LOOK_SECONDS = 0.1
JSON = "application/json"


def now():
    moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Api:
    """One connection to the API server."""

    def __init__(self, port, token):
        self.port, self.token, self.connection = port, token, None

    def ask(self, method, path, body=None, kind=JSON):
        for _ in range(2):
            try:
                if self.connection is None:
                    context = ssl._create_unverified_context()
                    self.connection = http.client.HTTPSConnection(
                        "127.0.0.1", self.port, context=context, timeout=30
                    )
                    self.connection.connect()
                    self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                text = None if body is None else json.dumps(body)
                headers = {"Authorization": "Bearer " + self.token, "Content-Type": kind}
                self.connection.request(method, path, text, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                self.connection = None
        return 0, b""

    def json(self, *request):
        code, text = self.ask(*request)
        try:
            return code, json.loads(text)
        except ValueError:
            return code, {}


class Container:
    """One container of one pod: its process and what that says."""

    def __init__(self, spec):
        self.name, self.spec = spec["name"], spec
        self.bad = "bad" in spec["image"]
        self.lines, self.process, self.restarts, self.started = [], None, 0, now()
        self.ended = None
        self.begin()

    def begin(self):
        if self.bad or not self.spec.get("command"):
            return
        command = self.spec["command"] + self.spec.get("args", [])
        environment = {"PATH": os.environ["PATH"]}
        for variable in self.spec.get("env", []):
            environment[variable["name"]] = variable.get("value", "")
        self.started, self.ended = now(), None
        try:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL"] + command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self.lines.append((now(), str(error)))
            self.ended = 127
            return
        threading.Thread(target=self.listen, args=(self.process,), daemon=True).start()

    def listen(self, process):
        for line in process.stdout:
            self.lines.append((now(), line.decode(errors="replace").rstrip("\n")))

    def look(self, restart_policy):
        if self.process is not None and self.ended is None:
            code = self.process.poll()
            if code is not None:
                self.ended = code if code >= 0 else 128 - code
        again = {"Always": True, "OnFailure": self.ended not in (None, 0)}.get(restart_policy)
        if self.ended is not None and again:
            self.restarts += 1
            time.sleep(LOOK_SECONDS)
            self.begin()

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()

    def status(self):
        if self.bad:
            state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        elif self.ended is not None:
            ended = {"exitCode": self.ended, "startedAt": self.started[:19] + "Z"}
            state = {"terminated": dict(ended, finishedAt=now()[:19] + "Z")}
        else:
            state = {"running": {"startedAt": self.started[:19] + "Z"}}
        ready = not self.bad and self.ended is None
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": self.restarts,
            "state": state,
        }


class Pod:
    def __init__(self, pod):
        self.policy = pod["spec"].get("restartPolicy", "Always")
        self.containers = [Container(spec) for spec in pod["spec"]["containers"]]
        self.told = None

    def status(self):
        """What is told of it; times that pass are not news."""
        all_of = [container.status() for container in self.containers]
        codes = [container.ended for container in self.containers]
        ready = "True" if all(one["ready"] for one in all_of) else "False"
        if any(container.bad for container in self.containers):
            phase = "Pending"
        elif None not in codes:
            phase = "Failed" if any(codes) else "Succeeded"
        else:
            phase = "Running"
        news = (phase, ready, tuple(codes), tuple(one["restartCount"] for one in all_of))
        moment = now()[:19] + "Z"
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": moment}
            for kind in ("Ready", "ContainersReady")
        ]
        return news, {
            "phase": phase,
            "podIP": "10.1.0.1",
            "startTime": moment,
            "conditions": conditions,
            "containerStatuses": all_of,
        }


PODS = {}


class Logs(http.server.BaseHTTPRequestHandler):
    """GET /containerLogs/NAMESPACE/POD/CONTAINER, as the API server asks for it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def refuse(self):
        """To whoever takes this for an API server, it is one that is out of order."""
        status = {"kind": "Status", "code": 500, "message": "out of order"}
        text = json.dumps(status).encode()
        self.send_response(500)
        self.send_header("Content-Type", JSON)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    do_PATCH = do_POST = do_DELETE = refuse

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if not url.path.startswith("/containerLogs/"):
            self.refuse()
            return
        query = {k: v[0] for k, v in urllib.parse.parse_qs(url.query).items()}
        _, _, namespace, name, container = url.path.split("/")
        pod = PODS.get((namespace, name))
        found = [c for c in pod.containers if c.name == container] if pod else []
        if not found:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.tell(pod, found[0], query)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def tell(self, pod, container, query):
        since = query.get("sinceTime", "").rstrip("Z")
        lines = [line for line in container.lines if line[0] >= since]
        told = len(container.lines)
        if "tailLines" in query:
            lines = lines[max(0, len(lines) - int(query["tailLines"])) :]
        self.write(lines, query)
        while query.get("follow") == "true" and pod in PODS.values():
            lines = container.lines[told:]
            told += len(lines)
            self.write(lines, query)
            if not lines and container.ended is not None:
                return
            time.sleep(0.05)

    def write(self, lines, query):
        for at, text in lines:
            line = f"{at} {text}\n" if query.get("timestamps") == "true" else f"{text}\n"
            line = line.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()


def serve_logs(directory):
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    key += ["-subj", "/CN=node", "-addext", "basicConstraints=critical,CA:FALSE"]
    key += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "kubelet.key", "-out", "kubelet.crt"]
    subprocess.run(key, cwd=directory, check=True, stderr=subprocess.DEVNULL)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Logs)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory + "/kubelet.crt", directory + "/kubelet.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def register(api, port):
    api.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    room = {"cpu": "8", "memory": "32Gi", "pods": "500"}
    moment = now()[:19] + "Z"
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    status = {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [dict(condition, lastHeartbeatTime=moment, lastTransitionTime=moment)],
    }
    kind = "application/merge-patch+json"
    return api.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, kind)[0] == 200


def look(api):
    code, listed = api.json("GET", "/api/v1/pods")
    if code != 200:
        return
    there = set()
    for pod in listed.get("items") or []:
        meta = pod["metadata"]
        key = (meta["namespace"], meta["name"])
        there.add(meta["uid"])
        path = "/api/v1/namespaces/%s/pods/%s" % key
        own = PODS.get(key)
        if own is not None and own.uid != meta["uid"]:
            end(key)
            own = None
        if meta.get("deletionTimestamp"):
            end(key)
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            body["preconditions"] = {"uid": meta["uid"]}
            api.ask("DELETE", path, body)
            continue
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"apiVersion": "v1", "kind": "Binding", "target": target}
            binding["metadata"] = {"name": meta["name"]}
            api.ask("POST", path + "/binding", binding)
        if own is None:
            own = PODS[key] = Pod(pod)
            own.uid = meta["uid"]
        for container in own.containers:
            container.look(own.policy)
        news, status = own.status()
        if news != own.told:
            kind = "application/strategic-merge-patch+json"
            code, _ = api.ask("PATCH", path + "/status", {"status": status}, kind)
            own.told = news if code == 200 else None
    for key in [key for key, own in PODS.items() if own.uid not in there]:
        end(key)


def end(key):
    own = PODS.pop(key, None)
    for container in own.containers if own else []:
        container.kill()


def main():
    api = Api(int(sys.argv[1]), sys.argv[2])
    port = serve_logs(sys.argv[3])
    while api.ask("GET", "/readyz")[0] != 200 or not register(api, port):
        time.sleep(LOOK_SECONDS)
    print(f"ready {port}", flush=True)
    while True:
        look(api)
        time.sleep(LOOK_SECONDS)


main()
