"""One service in one worker, on the listening socket that it gets as standard input."""

import ctypes
import os
import signal

import sqlalchemy
from sqlalchemy import event

PR_SET_PDEATHSIG = 1

bind = "fd://0"
wsgi_app = os.environ["WSGI_APPLICATION"]
# Processes are found by it: gunicorn writes it where their command line was.
proc_name = f"{wsgi_app} in {os.getcwd()}"
workers = 1
worker_class = "gthread"
threads = 16
# An upload may be as slow as a test likes.
timeout = 0
graceful_timeout = 1
control_socket_disable = True
errorlog = "-"


@event.listens_for(sqlalchemy.Engine, "begin")
def begin_to_write(connection):
    """A transaction waits for the one before it, as in a real database.

    oslo.db begins SQLite's transactions deferred: one that has read may not write after another has written, is
    refused at once ("database is locked") however long the timeout, and Glance answers 500.
    """
    if "in_transaction" not in connection.info:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.info["in_transaction"] = True


def post_fork(server, worker):
    """The worker dies with its master, whose own parent death signal a fork does not hand down."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker.ppid:
        os._exit(1)
