"""Tasks of Celery, with the broker of the variable BROKER_URL."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER_URL"])


@app.task
def add(first, second):
    return first + second
