"""A function app for testing the host: every function writes what it saw to a journal file.

A queue message says what its function shall do: `{"do": "succeed" | "fail" | "wait", "id": ...}`;
`wait` returns when the file `release-<id>` (or `release-all`) exists beside the journal.
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
lock = threading.Lock()


def write(event: str, **fields: Any) -> None:
    line = json.dumps({"event": event, **fields})
    with lock, (Path(os.environ["JOURNAL"]) / "journal.jsonl").open("a") as journal:
        journal.write(line + "\n")


def obey(text: str) -> None:
    order = json.loads(text)
    if order["do"] == "fail":
        raise ValueError(f"told to fail {order['id']}")
    names = (f"release-{order['id']}", "release-all")
    while order["do"] == "wait" and not any(
        (Path(os.environ["JOURNAL"]) / name).exists() for name in names
    ):
        time.sleep(0.02)


@app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="STORAGE")
def work(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    expires = message.expiration_time.isoformat() if message.expiration_time else None
    facts = {"id": message.id, "count": message.dequeue_count, "expires": expires}
    write("start", text=text, pid=os.getpid(), receipt=message.pop_receipt, **facts)
    obey(text)
    write("end", text=text)


@app.queue_trigger(arg_name="message", queue_name="%QUEUE%-poison", connection="STORAGE")
def poison(message: func.QueueMessage) -> None:
    write("poison", text=message.get_body().decode(), count=message.dequeue_count)
    obey(message.get_body().decode())


@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False)
def tick(timer: func.TimerRequest) -> None:
    status: dict[str, str] = getattr(timer, "schedule_status")  # noqa: B009 - not in its stub
    write("tick", past_due=timer.past_due, status=status)


@app.route(route="hello/{name}", methods=["GET"])
def hello(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    body = {
        "name": req.route_params["name"],
        "query": req.params.get("q"),
        "trace": context.trace_context.trace_parent,
    }
    return func.HttpResponse(
        json.dumps(body), status_code=207, mimetype="application/json", headers={"X-Test": "yes"}
    )


@app.route(route="echo", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def echo(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.get_body(), mimetype=req.headers.get("content-type"))


@app.route(route="secret", auth_level=func.AuthLevel.ADMIN)
def secret(req: func.HttpRequest) -> str:
    return "only with the master key"


@app.route(route="crash", auth_level=func.AuthLevel.ANONYMOUS)
def crash(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("on purpose")
