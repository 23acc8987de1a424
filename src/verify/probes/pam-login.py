"""Logs in by PAM: a JSON object with service, user and password on standard input; says what came of it."""
import ctypes
import ctypes.util
import json
import sys


class Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


TALK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.POINTER(Response)), ctypes.c_void_p)


class Conversation(ctypes.Structure):
    _fields_ = [("talk", TALK), ("data", ctypes.c_void_p)]


libc = ctypes.CDLL(None)
libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
libc.strdup.argtypes = [ctypes.c_char_p]
pam = ctypes.CDLL("libpam.so.0")
pam.pam_strerror.restype = ctypes.c_char_p
pam.pam_strerror.argtypes = [ctypes.c_void_p, ctypes.c_int]
for name in ("pam_authenticate", "pam_acct_mgmt", "pam_end"):
    getattr(pam, name).argtypes = [ctypes.c_void_p, ctypes.c_int]

login = json.load(sys.stdin)


# PAM_PROMPT_ECHO_OFF and PAM_PROMPT_ECHO_ON are 1 and 2 (pam_conv(3)).
@TALK
def talk(count, messages, responses, _):
    answers = libc.calloc(count, ctypes.sizeof(Response))
    responses[0] = ctypes.cast(answers, ctypes.POINTER(Response))
    for index in range(count):
        if messages[index].contents.style in (1, 2):
            responses[0][index].text = libc.strdup(login["password"].encode())
    return 0


handle = ctypes.c_void_p()
conversation = Conversation(talk, None)
code = pam.pam_start(login["service"].encode(), login["user"].encode(), ctypes.byref(conversation), ctypes.byref(handle))
step = "start"
if code == 0:
    step, code = "authenticate", pam.pam_authenticate(handle, 0)
if code == 0:
    step, code = "account", pam.pam_acct_mgmt(handle, 0)
print("accepted" if code == 0 else "refused at %s: %s" % (step, pam.pam_strerror(handle, code).decode()))
if handle:
    pam.pam_end(handle, code)
