"""The program as a server for the walk: started, told to end, started again on the same port with the same chats."""

import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request


class Server:
    """`pasture serve` with the starter. `home` is the folder of its chats."""

    def __init__(self, program, home, *arguments, key=None):
        self.command = [program, "serve", "--threads", "1", "--json", *arguments]
        self.environment = {**os.environ, "PASTURE_HOME": home}
        self.environment.pop("PASTURE_API_KEY", None)
        if key:
            self.environment["PASTURE_API_KEY"] = key
        self.port, self.process = 0, None
        self.start()

    def start(self):
        command = [*self.command, "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.url = told["url"]
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def post(self, path, body):
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)


class Busy:
    """Takes the only slot of a server for as long as it is wanted: whoever finds it free asks for a long text."""

    def __init__(self, server):
        body = {"messages": [{"role": "user", "content": "Count."}], "stream": True, "ignore_eos": True}
        head = {"Content-Type": "application/json"}
        url, body = server.url + "/v1/chat/completions", json.dumps(body).encode()
        self.request = urllib.request.Request(url, body, head)
        self.wanted, self.taken = True, threading.Event()
        self.askers = [threading.Thread(target=self.ask, daemon=True) for _ in range(4)]
        for asker in self.askers:
            asker.start()
        assert self.taken.wait(60), "the slot was never taken"

    def ask(self):
        while self.wanted:
            try:
                with urllib.request.urlopen(self.request, timeout=60) as answer:
                    while self.wanted and answer.readline():
                        self.taken.set()
            except urllib.error.HTTPError as error:
                assert error.code == 429, error
                time.sleep(0.005)

    def leave(self):
        self.wanted = False
        for asker in self.askers:
            asker.join()
