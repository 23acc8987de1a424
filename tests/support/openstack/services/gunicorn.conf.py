"""One service in one worker, on the listening socket that it gets as standard input."""

import ctypes
import os
import signal

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


def post_fork(server, worker):
    """The worker dies with its master, whose own parent death signal a fork does not hand down."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker.ppid:
        os._exit(1)
