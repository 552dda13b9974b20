"""An app with Azure's default settings: base64 messages, and a short `functionTimeout`."""

import logging
import time

import azure.functions as func

app = func.FunctionApp()


@app.queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="STORAGE")
def work(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    logging.getLogger("app").info("received <%s>", text)
    if text == "slow":
        time.sleep(2)
